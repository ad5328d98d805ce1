FROM busybox
ADD https://example.org/x.tar.gz /x/
ADD https://github.com/example/repository.git#v1 /x/
ADD git@github.com:example/repository.git /x/
COPY https://example.org/x /x

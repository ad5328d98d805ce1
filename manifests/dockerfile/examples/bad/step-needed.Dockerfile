FROM busybox
ARG A
RUN true
LABEL a=${A:?missing}

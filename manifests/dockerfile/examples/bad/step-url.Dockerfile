FROM busybox
ARG U=https://example.org/x
ADD $U /x

FROM busybox
ARG M=rw
COPY --chmod=$M a b

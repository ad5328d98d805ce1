FROM busybox
ARG A
RUN true
LABEL a=${A:?say it}

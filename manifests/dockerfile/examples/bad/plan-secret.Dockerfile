FROM busybox
RUN --mount=type=secret,id=key,required true

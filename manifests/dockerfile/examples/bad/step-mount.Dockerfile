FROM busybox
ARG T=cash
RUN --mount=type=$T,target=/x true

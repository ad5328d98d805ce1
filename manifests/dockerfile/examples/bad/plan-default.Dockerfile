ARG A=${B
FROM busybox

FROM --platform busybox
FROM --platform=a --platform=b busybox
FROM busybox
COPY --link=maybe a b
COPY --link --link a b
COPY --chmod=999 a b
COPY --chmod=u+q a b
COPY --exclude=[ a b
COPY --checksum=x a b
ADD --checksum=sha256:x a b
ADD --keep-git-dir a b
ADD --from=x a b
RUN --network=bridge true
RUN --security=insecure true
RUN --device=gpu true
RUN --mount=type=ssh true
RUN --mount=type=cache true
RUN --mount=type=bind,from=$X,target=/x true
RUN --mount=type=cache,target=/x,sharing=all true
RUN --mount=type=secret true
RUN --mount true

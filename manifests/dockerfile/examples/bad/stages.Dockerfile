FROM busybox AS one
COPY --from=two /a /a
COPY --from=one /a /a
COPY --from=7 /a /a
COPY --from=$X /a /a
COPY --from=Busy/Box /a /a
RUN --mount=from=two,target=/x true
FROM busybox AS two

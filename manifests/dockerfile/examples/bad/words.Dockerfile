FORM busybox
FROM busybox
RUNN make
COPPY a b
npm install
COPY --form=x a b
RUN --mout=type=cache,target=/x true
HEALTHCHECK --intervall=5s CMD x

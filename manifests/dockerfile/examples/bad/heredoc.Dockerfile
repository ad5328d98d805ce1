FROM busybox
COPY <<a/b /x/
y
a/b
COPY x <<EOF
y
EOF
RUN <<END
echo

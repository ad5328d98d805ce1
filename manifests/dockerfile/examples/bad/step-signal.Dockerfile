FROM busybox
STOPSIGNAL ${S:-none}

FROM "busybox

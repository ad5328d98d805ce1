FROM --platform=windows/amd64 busybox

# escape=x
# escape=`
# syntax=example/other:1
FROM busybox

FROM BusyBox:1

//! Packet rules as data, put into the kernel in one transaction.

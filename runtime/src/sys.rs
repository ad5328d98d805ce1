//! The system calls that no safe wrapper covers; the only unsafe code of this crate.
#![expect(unsafe_code, reason = "system calls without a safe wrapper are gathered here")]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cgroup::bpf::Instruction;
use crate::message::MAX_FDS;
use crate::seccomp::Filter;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The clock that only goes forward, also while the host is suspended.
pub(crate) fn since_boot() -> Duration {
    clock(rustix::time::ClockId::Boottime)
}

/// The clock that only goes forward.
pub(crate) fn monotonic() -> Duration {
    clock(rustix::time::ClockId::Monotonic)
}

/// The time of day, since the Unix epoch.
pub(crate) fn wall_clock() -> Duration {
    clock(rustix::time::ClockId::Realtime)
}

fn clock(id: rustix::time::ClockId) -> Duration {
    let now = rustix::time::clock_gettime(id);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Sends a signal, any number, to one process.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(libc::c_long::from(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// Sends a signal, any number, to the process behind a pidfd.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means "as kill does".
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, null, 0) };
    check(result).map(drop)
}

/// Room for the largest control message this crate sends, aligned as the kernel wants it.
#[repr(align(8))]
struct ControlBuffer([u8; 24 + MAX_FDS * 4]);

/// Sends all bytes, and descriptors beside the first of them.
pub(crate) fn send_with_fds(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let mut fds = fds;
    while !bytes.is_empty() {
        let sent = match send_once(socket, bytes, fds) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        bytes = &bytes[sent..];
        fds = &[];
    }
    Ok(())
}

fn send_once(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut control = ControlBuffer([0; 24 + MAX_FDS * 4]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero msghdr is valid; the pointers set below live until sendmsg returns, and the
    // control buffer has room for MAX_FDS descriptors, which the caller checked.
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if !fds.is_empty() {
            let length = u32::try_from(fds.len() * 4).map_err(io::Error::other)?;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(length) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(length) as _;
            let data = libc::CMSG_DATA(first);
            for (index, fd) in fds.iter().enumerate() {
                let bytes = fd.as_raw_fd().to_ne_bytes();
                data.add(index * bytes.len()).cast::<[u8; 4]>().write(bytes);
            }
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives some bytes, 0 at the end, and adds the descriptors that came beside them.
pub(crate) fn receive_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    loop {
        match receive_once(socket, bytes, fds) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn receive_once(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut control = ControlBuffer([0; 24 + MAX_FDS * 4]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: as for sending; the kernel writes at most the lengths given, CMSG_* walk what it wrote,
    // and each descriptor received is owned by nobody else.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        let got = libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC);
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS
            {
                let data = libc::CMSG_DATA(message);
                let length = (*message).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..length / size_of::<libc::c_int>() {
                    let bytes = data.add(index * 4).cast::<[u8; 4]>().read();
                    fds.push(OwnedFd::from_raw_fd(libc::c_int::from_ne_bytes(bytes)));
                }
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
        Ok(got)
    }
}

/// The kernel's `union bpf_attr`, as far as loading a program reads it.
#[repr(C)]
#[derive(Default)]
struct BpfLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The kernel's `union bpf_attr`, as far as attaching a program reads it.
#[repr(C)]
struct BpfAttach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
pub(crate) fn bpf_load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    const LOAD: libc::c_int = 5;
    const CGROUP_DEVICE: u32 = 15;
    let load = BpfLoad {
        program_type: CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..BpfLoad::default()
    };
    // SAFETY: the attribute and what it points to live until the call returns; the size is its own.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw const load, size_of::<BpfLoad>()) };
    owned(fd)
}

/// Attaches a loaded device program to a control group, beside others.
pub(crate) fn bpf_attach_device_program(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    const ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let attach = BpfAttach {
        target: group.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        attach_type: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the attribute lives until the call returns; the size is its own.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, ATTACH, &raw const attach, size_of::<BpfAttach>()) };
    check(result).map(drop)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(check(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Which side of a [`clone3`] this is.
pub(crate) enum Cloned {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The new process's id.
        pid: i32,
        /// A descriptor of the new process.
        pidfd: OwnedFd,
    },
}

/// Copies this process into new namespaces (`CLONE_NEW…` in `namespaces`), and into a group of the
/// unified hierarchy if one is given: moving a process later makes all others wait.
///
/// Only for a process with one thread: the copy has only the thread that called, so any lock that
/// another thread held would stay locked in it.
pub(crate) fn clone3(namespaces: u64, group: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero clone_args is valid. Without CLONE_VM the child has its own copy of all
    // memory; both the arguments and the place for the pidfd live until the call returns.
    unsafe {
        let mut arguments: libc::clone_args = std::mem::zeroed();
        arguments.flags = namespaces | u64::from(libc::CLONE_PIDFD.cast_unsigned());
        if let Some(group) = group {
            arguments.flags |= INTO_CGROUP;
            arguments.cgroup = group.as_raw_fd().cast_unsigned().into();
        }
        arguments.pidfd = (&raw mut pidfd) as u64;
        arguments.exit_signal = libc::SIGCHLD.cast_unsigned().into();
        let size = size_of::<libc::clone_args>();
        let pid = check(libc::syscall(libc::SYS_clone3, &raw mut arguments, size))?;
        if pid == 0 {
            return Ok(Cloned::Child);
        }
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Cloned::Parent { pid, pidfd: OwnedFd::from_raw_fd(pidfd) })
    }
}

/// Copies this process; 0 in the copy. Only for a process with one thread.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: the caller has one thread, so the copy is as usable as the original.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    i32::try_from(pid).map_err(io::Error::other)
}

/// Ends this process at once, running no clean-up.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any code and does not return.
    unsafe { libc::_exit(code) }
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MountAttributes {
    /// `MOUNT_ATTR_…` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_…` to clear.
    pub(crate) clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0.
    pub(crate) propagation: u64,
    /// Unused: identity-mapped mounts.
    pub(crate) user_namespace: u64,
}

/// Changes a mount, with all below it if `recursive`.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &MountAttributes,
) -> io::Result<()> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is empty and the attributes live until the call returns; the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const *attributes,
            size_of::<MountAttributes>(),
        )
    };
    check(result).map(drop)
}

/// Closes the descriptors from `first` to `last`, both included; nothing when there are none between.
///
/// Only right before this process's program is replaced or ends: descriptors owned by values would
/// otherwise be closed under them.
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: no memory is passed; the caller gives up these descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Makes every descriptor from `first` on close when a program is executed.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOEXEC: libc::c_int = 4;
    // SAFETY: no memory is passed and nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOEXEC) }).map(drop)
}

/// Replaces this process's program; returns only on failure.
pub(crate) fn execve(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|each| each.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with null, and all strings live until the call returns.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Installs a seccomp filter for this thread; with `notify` returns the descriptor to listen on.
pub(crate) fn load_seccomp(
    filter: &[Filter],
    flags: u32,
    notify: bool,
) -> io::Result<Option<OwnedFd>> {
    const SET_MODE_FILTER: libc::c_int = 1;
    const NEW_LISTENER: u32 = 1 << 3;
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    let flags = if notify { flags | NEW_LISTENER } else { flags };
    // SAFETY: the program and its instructions live until the call returns and are only read.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    if notify { owned(result).map(Some) } else { check(result).map(|_| None) }
}

/// Starts a new session keyring, so that the container does not share the caller's.
pub(crate) fn join_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name is allowed and means an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, null) }).map(drop)
}

/// Brings up the loopback link of this process's network namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    // SAFETY: an all-zero ifreq is valid; its name is filled with a short constant; SIOCGIFFLAGS and
    // SIOCSIFFLAGS read and write the flags member only.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed() as _;
        request.ifr_name[1] = b'o'.cast_signed() as _;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request).into())?;
        request.ifr_ifru.ifru_flags |= i16::try_from(libc::IFF_UP).expect("the flag is 1");
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request).into())?;
    }
    Ok(())
}

/// Opens the other end of a terminal by its master, without a path that could be exchanged.
pub(crate) fn open_terminal_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int; TIOCGPTPEER takes flags by value and makes a descriptor.
    unsafe {
        let fd = master.as_raw_fd();
        check(libc::ioctl(fd, libc::TIOCSPTLCK as _, &raw const unlocked).into())?;
        owned(libc::ioctl(fd, libc::TIOCGPTPEER as _, flags).into())
    }
}

/// Lets no signal be blocked, and gives every signal its default effect.
pub(crate) fn reset_signals() {
    // SAFETY: the set is initialised by sigemptyset; SIG_DFL is valid for every signal, and signals
    // that cannot be set are refused without effect.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        for signal in 1..=libc::SIGSYS {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Ignores the signals that would end a process that must stay.
pub(crate) fn ignore_signals(signals: &[libc::c_int]) {
    for signal in signals {
        // SAFETY: SIG_IGN is valid for every signal.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

/// Makes a signal readable, instead of having it delivered; also one that is ignored.
pub(crate) fn signal_source(signal: Signal) -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(signal);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Blocks all signals, so that they wait for [`next_signal`].
pub(crate) fn block_signals() {
    // SAFETY: the set is initialised by sigfillset and lives until the call returns.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Waits for the next blocked signal and takes it.
pub(crate) fn next_signal() -> io::Result<libc::c_int> {
    let mut signal = 0;
    // SAFETY: the set is initialised by sigfillset; it and the signal's place live until the call returns.
    let result = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigwait(&raw const all, &raw mut signal)
    };
    if result == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Gives memory that is no longer used back to the kernel.
pub(crate) fn release_memory() {
    // SAFETY: malloc_trim may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Duplicates a descriptor onto a given number, without close-on-exec.
pub(crate) fn duplicate_onto(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: the target numbers used here are the standard streams, owned by no value.
    check(libc::c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(drop)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitStatus(libc::c_int);

impl WaitStatus {
    /// The signal that ended it, if one did.
    pub(crate) fn signal(self) -> Option<i32> {
        libc::WIFSIGNALED(self.0).then(|| libc::WTERMSIG(self.0))
    }

    /// The exit code as a shell tells it: 128 + n after signal n.
    pub(crate) fn code(self) -> i32 {
        self.signal().map_or_else(|| libc::WEXITSTATUS(self.0), |signal| 128 + signal)
    }
}

/// Takes the next child that has ended, without waiting; `None` when there is none now.
pub(crate) fn wait_any() -> io::Result<Option<(i32, WaitStatus)>> {
    wait_for(-1, libc::WNOHANG)
}

/// Waits for one child to end.
pub(crate) fn wait_child(pid: i32) -> io::Result<WaitStatus> {
    loop {
        match wait_for(pid, 0) {
            Ok(Some((_, status))) => return Ok(status),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
}

fn wait_for(pid: i32, flags: libc::c_int) -> io::Result<Option<(i32, WaitStatus)>> {
    let mut status = 0;
    // SAFETY: the status's place lives until the call returns.
    let pid = unsafe { libc::waitpid(pid, &raw mut status, flags) };
    let pid = i32::try_from(check(pid.into())?).map_err(io::Error::other)?;
    Ok((pid != 0).then_some((pid, WaitStatus(status))))
}

/// Takes over the descriptor at a standard stream's number as a duplicate.
pub(crate) fn duplicate_standard(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed; the new descriptor is owned by nobody else.
    owned(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }.into())
}

/// Moves this process into new namespaces, `CLONE_NEW…`.
pub(crate) fn unshare_namespaces(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(libc::c_long::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// Moves this process into the namespace behind a descriptor, of a given type `CLONE_NEW…`.
pub(crate) fn join_namespace(namespace: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(libc::c_long::from(unsafe { libc::setns(namespace.as_raw_fd(), kind) })).map(drop)
}

/// The reason in an error, as it goes into a sentence: `no such file or directory`.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or(&text);
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => text.to_owned(),
    }
}

/// An error with its causes, as one sentence: `mount "/x": could not attach it: not a directory`.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        match error.downcast_ref::<io::Error>() {
            Some(error) => text.push_str(&reason(error)),
            None => text.push_str(&error.to_string()),
        }
        next = error.source();
    }
    text
}

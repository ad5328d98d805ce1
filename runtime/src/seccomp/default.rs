//! The default profile: what programs in containers need, and nothing that reaches the host. It allows
//! and refuses what Docker's does, so that images find what they are used to.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::table::Architecture;
use crate::init::capability_number;

/// Allowed to everybody.
const ALLOWED: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect \
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old \
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat \
    fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr \
    fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake \
    futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit \
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday \
    getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
    io_cancel ioctl io_destroy io_getevents io_pgetevents ioprio_get ioprio_set io_setup io_submit \
    kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link \
    linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat \
    madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod \
    mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive \
    mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall \
    munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open \
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 \
    preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev pwritev2 read readahead \
    readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat \
    rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask \
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity \
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler \
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
    sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto \
    setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid \
    setreuid setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid \
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
    socketpair splice stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs \
    sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime \
    timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink \
    unlinkat uretprobe utime utimensat utimes vfork vmsplice wait4 waitid write writev \
    process_vm_readv process_vm_writev ptrace";

/// Allowed on one architecture only, where the call belongs to how programs run at all.
const OF_X86_64: &str = "arch_prctl modify_ldt";

/// Allowed to holders of a capability.
const BY_CAPABILITY: [(&str, &str); 13] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog \
         umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday clock_settime"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
];

/// As [`BY_CAPABILITY`], for the capability that does not fit there.
const BY_PERFMON: (&str, &str) = ("PERFMON", "perf_event_open");

/// Address families up to this one may be used; of the later ones only those listed.
const FAMILIES_BELOW: u64 = 12;
/// Not among them: those that reach the host or are known for holes (VSOCK, ALG, PPPOX, LLC, …).
const FAMILIES: [u64; 25] = [
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44,
    45,
];

/// Execution domains that may be set: Linux, uname26, no randomisation, and the question.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The flags of clone that make namespaces.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// The answer for what is not allowed, and for what is best taken for not there.
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The default profile for a program with these capabilities in its bounding set.
pub fn default_profile(bounding: u64) -> LinuxSeccomp {
    profile(bounding, Architecture::native())
}

pub(super) fn profile(bounding: u64, architecture: Option<Architecture>) -> LinuxSeccomp {
    let has =
        |name: &str| capability_number(name).is_some_and(|number| bounding & 1 << number != 0);
    let mut calls = vec![allow(ALLOWED)];
    if architecture == Some(Architecture::X86_64) {
        calls.push(allow(OF_X86_64));
    }
    calls.push(allow_if("socket", argument(FAMILIES_BELOW, LinuxSeccompOperator::ScmpCmpLt)));
    let equal = |value| argument(value, LinuxSeccompOperator::ScmpCmpEq);
    calls.extend(FAMILIES.map(|family| allow_if("socket", equal(family))));
    calls.extend(PERSONALITIES.map(|domain| allow_if("personality", equal(domain))));
    let by_capability = BY_CAPABILITY.iter().chain(std::iter::once(&BY_PERFMON));
    calls.extend(by_capability.filter(|(name, _)| has(name)).map(|(_, names)| allow(names)));
    if !has("SYS_ADMIN") {
        calls.push(allow_if(
            "clone",
            argument(NAMESPACE_FLAGS, LinuxSeccompOperator::ScmpCmpMaskedEq),
        ));
        // Its flags lie in memory, where a filter cannot look; programs fall back to clone.
        calls.push(rule("clone3", LinuxSeccompAction::ScmpActErrno, Some(ENOSYS), None));
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .syscalls(calls)
        .build()
        .expect("every needed field is set")
}

fn argument(value: u64, operator: LinuxSeccompOperator) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(0_usize)
        .value(value)
        .op(operator)
        .build()
        .expect("every needed field is set")
}

fn allow(names: &str) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow, None, None)
}

fn allow_if(name: &str, argument: LinuxSeccompArg) -> LinuxSyscall {
    rule(name, LinuxSeccompAction::ScmpActAllow, None, Some(argument))
}

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    argument: Option<LinuxSeccompArg>,
) -> LinuxSyscall {
    let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    let mut builder = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        builder = builder.errno_ret(errno);
    }
    if let Some(argument) = argument {
        builder = builder.args(vec![argument]);
    }
    builder.build().expect("every needed field is set")
}

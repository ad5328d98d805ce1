//! The one table of what `docker service create` and `docker service update` take, each flag with its counterpart here,
//! or the reason why there is none, and a test that shows it. `docs/swarm-flags.md` is made of it.

use std::fmt::Write as _;

/// A flag of Docker's.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Without its dashes.
    pub name: &'static str,
    /// What becomes of it.
    pub answer: Answer,
    /// A test that shows it, by its function's name.
    pub test: &'static str,
    /// What differs; may be empty.
    pub note: &'static str,
}

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `swarmctl service create` or `update` has it.
    Flag {
        /// Its name there, without its dashes.
        name: &'static str,
        /// The key of a service in a stack file; empty where there is none.
        key: &'static str,
    },
    /// Only a service of a stack file has it.
    Key(
        /// Which key.
        &'static str,
    ),
    /// There is none.
    Refused(
        /// Why.
        &'static str,
    ),
}

const fn flag(
    name: &'static str,
    own: &'static str,
    key: &'static str,
    test: &'static str,
) -> Flag {
    Flag { name, answer: Answer::Flag { name: own, key }, test, note: "" }
}

const fn key(name: &'static str, key: &'static str, test: &'static str) -> Flag {
    Flag { name, answer: Answer::Key(key), test, note: "" }
}

const fn refused(name: &'static str, why: &'static str, test: &'static str) -> Flag {
    Flag { name, answer: Answer::Refused(why), test, note: "" }
}

impl Flag {
    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

/// All of them, those of `create` in the order of Docker's documentation first.
pub const FLAGS: &[Flag] = &[
    flag("name", "name", "services.*", "a_service_is_created_as_a_stack_of_its_name")
        .note("the service of a stack of the same name: `NAME_NAME`"),
    key("mode", "deploy.mode", "scripts_give_what_they_say"),
    flag("replicas", "replicas", "deploy.replicas", "each_flag_lands_where_a_stack_file_says_it"),
    key(
        "replicas-max-per-node",
        "deploy.placement.max_replicas_per_node",
        "scripts_give_what_they_say",
    ),
    key("max-concurrent", "deploy.replicas", "scripts_give_what_they_say")
        .note("of a job; how often is `x-swarm.job.total`"),
    flag("env", "env-add", "environment", "each_flag_lands_where_a_stack_file_says_it"),
    key("env-file", "env_file", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("entrypoint", "entrypoint", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("user", "user", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("group", "group_add", "keys_do_what_they_say"),
    key("workdir", "working_dir", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("hostname", "hostname", "keys_do_what_they_say"),
    key("tty", "tty", "a_terminal_is_a_terminal"),
    key("read-only", "read_only", "a_read_only_root_cannot_be_written"),
    key("init", "init", "a_small_init_passes_signals_on_and_buries_orphans"),
    flag("mount", "mount-add", "volumes", "ports_and_mounts_have_their_own_words"),
    key("network", "networks", "each_key_is_honoured_or_answered_as_the_table_says")
        .note("a stack's networks are made with it"),
    flag("publish", "publish-add", "ports", "ports_and_mounts_have_their_own_words"),
    key("endpoint-mode", "deploy.endpoint_mode", "scripts_give_what_they_say")
        .note("clients would lose the address that they know if a service changed it"),
    key("host", "extra_hosts", "keys_do_what_they_say"),
    key("dns", "dns", "keys_do_what_they_say"),
    key("dns-option", "dns_opt", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("dns-search", "dns_search", "each_key_is_honoured_or_answered_as_the_table_says"),
    flag("label", "label-add", "deploy.labels", "each_flag_lands_where_a_stack_file_says_it"),
    flag(
        "container-label",
        "container-label-add",
        "labels",
        "writes_of_services_say_what_they_did",
    ),
    flag(
        "constraint",
        "constraint-add",
        "deploy.placement.constraints",
        "scripts_give_what_they_say",
    ),
    key("placement-pref", "deploy.placement.preferences", "scripts_give_what_they_say"),
    flag("limit-cpu", "limit-cpu", "deploy.resources.limits.cpus", "processor_time_is_limited"),
    flag(
        "limit-memory",
        "limit-memory",
        "deploy.resources.limits.memory",
        "memory_is_limited_and_the_kill_is_told",
    ),
    flag("limit-pids", "limit-pids", "deploy.resources.limits.pids", "processes_are_limited"),
    flag("reserve-cpu", "reserve-cpu", "deploy.resources.reservations.cpus", "laws_hold")
        .note("never overcommitted, beside `[reserve]` of the agents"),
    flag("reserve-memory", "reserve-memory", "deploy.resources.reservations.memory", "laws_hold")
        .note("never overcommitted, beside `[reserve]` of the agents"),
    flag(
        "generic-resource",
        "generic-resource-add",
        "deploy.resources.reservations.generic_resources",
        "named_resources_are_given_once",
    ),
    key("memory-swap", "memswap_limit", "a_limit_leaves_no_swap_unless_asked"),
    key(
        "memory-swappiness",
        "mem_swappiness",
        "each_key_is_honoured_or_answered_as_the_table_says",
    ),
    key("oom-score-adj", "oom_score_adj", "keys_do_what_they_say"),
    key("cap-add", "cap_add", "capability_sets_follow_docker"),
    key("cap-drop", "cap_drop", "capabilities_are_dropped"),
    key("sysctl", "sysctls", "sysctl_and_loopback_belong_to_the_container"),
    key("ulimit", "ulimits", "rlimits_are_set_and_one_too_high_is_a_clear_error"),
    key("secret", "secrets", "files_of_the_workstation_reach_containers_in_memory"),
    key("config", "configs", "files_of_the_workstation_reach_containers_in_memory"),
    key(
        "health-cmd",
        "healthcheck.test",
        "checks_decide_whether_a_task_runs_and_when_it_is_replaced",
    ),
    key(
        "health-interval",
        "healthcheck.interval",
        "each_key_is_honoured_or_answered_as_the_table_says",
    ),
    key(
        "health-timeout",
        "healthcheck.timeout",
        "each_key_is_honoured_or_answered_as_the_table_says",
    ),
    key(
        "health-retries",
        "healthcheck.retries",
        "each_key_is_honoured_or_answered_as_the_table_says",
    ),
    key(
        "health-start-period",
        "healthcheck.start_period",
        "each_key_is_honoured_or_answered_as_the_table_says",
    ),
    key(
        "health-start-interval",
        "healthcheck.start_interval",
        "each_key_is_honoured_or_answered_as_the_table_says",
    ),
    key(
        "no-healthcheck",
        "healthcheck.disable",
        "each_key_is_honoured_or_answered_as_the_table_says",
    ),
    flag(
        "restart-condition",
        "restart-condition",
        "deploy.restart_policy.condition",
        "scripts_give_what_they_say",
    ),
    flag(
        "restart-delay",
        "restart-delay",
        "deploy.restart_policy.delay",
        "each_flag_lands_where_a_stack_file_says_it",
    ),
    flag(
        "restart-max-attempts",
        "restart-max-attempts",
        "deploy.restart_policy.max_attempts",
        "scripts_give_what_they_say",
    ),
    flag(
        "restart-window",
        "restart-window",
        "deploy.restart_policy.window",
        "old_restarts_leave_the_window",
    ),
    flag(
        "update-parallelism",
        "update-parallelism",
        "deploy.update_config.parallelism",
        "updates_keep_their_promise_and_end",
    ),
    flag(
        "update-delay",
        "update-delay",
        "deploy.update_config.delay",
        "updates_keep_their_promise_and_end",
    ),
    flag(
        "update-monitor",
        "update-monitor",
        "deploy.update_config.monitor",
        "updates_keep_their_promise_and_end",
    ),
    flag(
        "update-failure-action",
        "update-failure-action",
        "deploy.update_config.failure_action",
        "updates_keep_their_promise_and_end",
    ),
    flag(
        "update-max-failure-ratio",
        "update-max-failure-ratio",
        "deploy.update_config.max_failure_ratio",
        "each_flag_lands_where_a_stack_file_says_it",
    ),
    flag(
        "update-order",
        "update-order",
        "deploy.update_config.order",
        "updates_keep_their_promise_and_end",
    ),
    flag(
        "rollback-parallelism",
        "rollback-parallelism",
        "deploy.rollback_config.parallelism",
        "a_bad_update_rolls_back_by_itself_and_loses_no_request",
    ),
    flag(
        "rollback-delay",
        "rollback-delay",
        "deploy.rollback_config.delay",
        "a_bad_update_rolls_back_by_itself_and_loses_no_request",
    ),
    flag(
        "rollback-monitor",
        "rollback-monitor",
        "deploy.rollback_config.monitor",
        "a_bad_update_rolls_back_by_itself_and_loses_no_request",
    ),
    flag(
        "rollback-failure-action",
        "rollback-failure-action",
        "deploy.rollback_config.failure_action",
        "a_bad_update_rolls_back_by_itself_and_loses_no_request",
    ),
    flag(
        "rollback-max-failure-ratio",
        "rollback-max-failure-ratio",
        "deploy.rollback_config.max_failure_ratio",
        "each_flag_lands_where_a_stack_file_says_it",
    ),
    flag(
        "rollback-order",
        "rollback-order",
        "deploy.rollback_config.order",
        "a_bad_update_rolls_back_by_itself_and_loses_no_request",
    ),
    key("stop-signal", "stop_signal", "signals_have_many_names"),
    flag(
        "stop-grace-period",
        "stop-grace-period",
        "stop_grace_period",
        "each_flag_lands_where_a_stack_file_says_it",
    ),
    key("log-driver", "logging.driver", "keys_do_what_they_say"),
    key("log-opt", "logging.options", "keys_do_what_they_say"),
    refused(
        "no-resolve-image",
        "each task runs exactly the content that its image's name stood for; name the image with its digest",
        "what_is_wrong_is_said_without_a_place_in_a_file",
    ),
    refused(
        "with-registry-auth",
        "hosts ask registries without credentials",
        "what_is_wrong_is_said_without_a_place_in_a_file",
    ),
    refused(
        "isolation",
        "it is of Windows, and hosts here are Linux",
        "what_is_wrong_is_said_without_a_place_in_a_file",
    ),
    refused(
        "credential-spec",
        "it is of Windows, and hosts here are Linux",
        "what_is_wrong_is_said_without_a_place_in_a_file",
    ),
    flag("detach", "detach", "", "detached_it_returns_at_once")
        .note("as Docker's since 2023: without it the command waits"),
    refused(
        "quiet",
        "talk goes to standard error, data alone to standard output: redirect it",
        "there_is_no_flag_for_quiet",
    ),
    flag("image", "image", "image", "writes_of_services_say_what_they_did"),
    flag("args", "args", "command", "writes_of_services_say_what_they_did"),
    flag("force", "force", "", "writes_of_services_say_what_they_did"),
    flag("rollback", "rollback", "", "writes_of_services_say_what_they_did"),
    flag("env-add", "env-add", "environment", "a_change_takes_away_then_adds_and_leaves_the_rest"),
    flag("env-rm", "env-rm", "environment", "a_change_takes_away_then_adds_and_leaves_the_rest"),
    flag(
        "label-add",
        "label-add",
        "deploy.labels",
        "a_change_takes_away_then_adds_and_leaves_the_rest",
    ),
    flag(
        "label-rm",
        "label-rm",
        "deploy.labels",
        "a_change_takes_away_then_adds_and_leaves_the_rest",
    ),
    flag(
        "container-label-add",
        "container-label-add",
        "labels",
        "a_change_takes_away_then_adds_and_leaves_the_rest",
    ),
    flag(
        "container-label-rm",
        "container-label-rm",
        "labels",
        "a_change_takes_away_then_adds_and_leaves_the_rest",
    ),
    flag(
        "constraint-add",
        "constraint-add",
        "deploy.placement.constraints",
        "a_change_takes_away_then_adds_and_leaves_the_rest",
    ),
    flag(
        "constraint-rm",
        "constraint-rm",
        "deploy.placement.constraints",
        "a_change_takes_away_then_adds_and_leaves_the_rest",
    ),
    key("placement-pref-add", "deploy.placement.preferences", "scripts_give_what_they_say"),
    key("placement-pref-rm", "deploy.placement.preferences", "scripts_give_what_they_say"),
    flag("mount-add", "mount-add", "volumes", "ports_and_mounts_have_their_own_words"),
    flag("mount-rm", "mount-rm", "volumes", "what_does_not_fit_is_refused"),
    key("network-add", "networks", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("network-rm", "networks", "each_key_is_honoured_or_answered_as_the_table_says"),
    flag("publish-add", "publish-add", "ports", "ports_and_mounts_have_their_own_words"),
    flag("publish-rm", "publish-rm", "ports", "a_change_takes_away_then_adds_and_leaves_the_rest"),
    key("secret-add", "secrets", "files_of_the_workstation_reach_containers_in_memory"),
    key("secret-rm", "secrets", "files_of_the_workstation_reach_containers_in_memory"),
    key("config-add", "configs", "files_of_the_workstation_reach_containers_in_memory"),
    key("config-rm", "configs", "files_of_the_workstation_reach_containers_in_memory"),
    key("host-add", "extra_hosts", "keys_do_what_they_say"),
    key("host-rm", "extra_hosts", "keys_do_what_they_say"),
    key("dns-add", "dns", "keys_do_what_they_say"),
    key("dns-rm", "dns", "keys_do_what_they_say"),
    key("dns-search-add", "dns_search", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("dns-search-rm", "dns_search", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("dns-option-add", "dns_opt", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("dns-option-rm", "dns_opt", "each_key_is_honoured_or_answered_as_the_table_says"),
    key("group-add", "group_add", "keys_do_what_they_say"),
    key("group-rm", "group_add", "keys_do_what_they_say"),
    key("sysctl-add", "sysctls", "sysctl_and_loopback_belong_to_the_container"),
    key("sysctl-rm", "sysctls", "sysctl_and_loopback_belong_to_the_container"),
    key("ulimit-add", "ulimits", "rlimits_are_set_and_one_too_high_is_a_clear_error"),
    key("ulimit-rm", "ulimits", "rlimits_are_set_and_one_too_high_is_a_clear_error"),
    flag(
        "generic-resource-add",
        "generic-resource-add",
        "deploy.resources.reservations.generic_resources",
        "a_kind_of_resource_is_asked_for_once",
    ),
    flag(
        "generic-resource-rm",
        "generic-resource-rm",
        "deploy.resources.reservations.generic_resources",
        "a_kind_of_resource_is_asked_for_once",
    ),
];

/// What Docker's services do not have: flags of `swarmctl service`, or keys.
pub const EXTENSIONS: &[Flag] = &[
    flag("", "priority", "x-swarm.priority", "laws_hold"),
    flag("", "preemption", "x-swarm.preemption", "laws_hold"),
    flag("", "reserve-pids", "x-swarm.reservations.pids", "laws_hold"),
    flag(
        "",
        "canary",
        "x-swarm.canary",
        "a_canary_holds_and_is_taken_back_or_promoted_and_loses_no_request",
    )
    .note("goes on by `swarmctl promote`"),
    flag("", "canary-hold", "x-swarm.canary.hold", "scripts_give_what_they_say"),
    flag(
        "",
        "autoscale",
        "x-swarm.autoscale",
        "scaling_is_said_whole_for_a_new_service_and_in_parts_for_a_change",
    )
    .note("`none` takes it away"),
    flag(
        "",
        "autoscale-min",
        "x-swarm.autoscale.min",
        "scaling_is_changed_by_its_parts_and_begun_as_a_whole",
    ),
    flag(
        "",
        "autoscale-max",
        "x-swarm.autoscale.max",
        "scaling_is_changed_by_its_parts_and_begun_as_a_whole",
    ),
    flag(
        "",
        "autoscale-cpu",
        "x-swarm.autoscale.cpu",
        "scaling_is_changed_by_its_parts_and_begun_as_a_whole",
    ),
    flag(
        "",
        "autoscale-memory",
        "x-swarm.autoscale.memory",
        "scaling_is_changed_by_its_parts_and_begun_as_a_whole",
    ),
    flag(
        "",
        "autoscale-requests",
        "x-swarm.autoscale.requests",
        "scaling_is_changed_by_its_parts_and_begun_as_a_whole",
    ),
    flag(
        "",
        "autoscale-scrape",
        "x-swarm.autoscale.scrape",
        "scaling_is_changed_by_its_parts_and_begun_as_a_whole",
    ),
    flag(
        "",
        "autoscale-stabilisation",
        "x-swarm.autoscale.stabilisation",
        "scaling_is_changed_by_its_parts_and_begun_as_a_whole",
    ),
    flag(
        "",
        "autoscale-cool-down",
        "x-swarm.autoscale.cool_down",
        "scaling_is_changed_by_its_parts_and_begun_as_a_whole",
    ),
    flag("", "unreachable-after", "x-swarm.unreachable_after", "scripts_give_what_they_say")
        .note("on top of the four seconds after which a node is down"),
    flag("", "on-cut-off", "x-swarm.on_cut_off", "a_cut_off_database_never_runs_twice"),
    flag(
        "",
        "update-progress-deadline",
        "x-swarm.update.progress_deadline",
        "scripts_give_what_they_say",
    ),
    flag(
        "",
        "rollback-progress-deadline",
        "x-swarm.rollback.progress_deadline",
        "each_flag_lands_where_a_stack_file_says_it",
    ),
    key("", "x-swarm.placement", "scripts_give_what_they_say").note("`near` and `apart`"),
    key("", "x-swarm.job", "scripts_give_what_they_say")
        .note("schedules, time zones, what becomes of missed runs; `swarmctl job` and `run`"),
    key("", "x-swarm.health", "checks_decide_whether_a_task_runs_and_when_it_is_replaced")
        .note("requests and connections as checks"),
];

/// A flag of `docker node update`.
#[derive(Debug, Clone, Copy)]
pub struct NodeFlag {
    /// With its value, without its dashes.
    pub name: &'static str,
    /// The verb of `swarmctl node`.
    pub verb: &'static str,
    /// What differs; may be empty.
    pub note: &'static str,
    /// As that of [`Flag`].
    pub test: &'static str,
}

const fn node_flag(
    name: &'static str,
    verb: &'static str,
    note: &'static str,
    test: &'static str,
) -> NodeFlag {
    NodeFlag { name, verb, note, test }
}

/// All of them, and what it has beside.
pub const NODE_FLAGS: &[NodeFlag] = &[
    node_flag(
        "availability drain",
        "drain",
        "keeps what the services' update policies promise; `--wait` waits until none is left",
        "a_drain_waits_until_nothing_is_left_and_never_takes_too_much",
    ),
    node_flag("availability pause", "pause", "", "scripts_give_what_they_say"),
    node_flag("availability active", "activate", "", "scripts_give_what_they_say"),
    node_flag("label-add", "label", "`zone=a`", "writes_say_what_they_did"),
    node_flag("label-rm", "label", "`zone-`", "writes_say_what_they_did"),
    node_flag("role manager", "promote", "", "hosts_become_controllers"),
    node_flag("role worker", "demote", "", "a_demotion_is_sent_or_refused"),
    node_flag(
        "",
        "lost",
        "an operator's word that a host is off: its tasks are replaced at once",
        "scripts_give_what_they_say",
    ),
];

const HEAD: &str = "# Flags of Docker's services

Each flag of `docker service create` and `docker service update` with its counterpart here: a flag of `swarmctl service
create` and `update`, a key of a service in a stack file (`docs/stack-files.md`), or the reason why there is none. The last
column names a test that shows it. This page is made of the table in `swarmctl/src/swarm_flags.rs`; a test looks for each
named test in the sources.

`scripts_give_what_they_say` stands for the text scripts of `controller/tests/scripts`: each rule has its own.

| Docker's flag | `swarmctl service` | Stack file | Remarks | Test |
| --- | --- | --- | --- | --- |
";

const EXTENSIONS_HEAD: &str = "
## What Docker's services do not have

| `swarmctl service` | Stack file | Remarks | Test |
| --- | --- | --- | --- |
";

const NODES_HEAD: &str = "
## Flags of `docker node update`

| Docker's flag | `swarmctl node` | Remarks | Test |
| --- | --- | --- | --- |
";

fn code(text: String) -> String {
    if text.is_empty() { text } else { format!("`{text}`") }
}

fn dashed(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`--{text}`") }
}

/// The page as Markdown.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for flag in FLAGS {
        let _ = writeln!(page, "| `--{}` {}", flag.name, rest(flag));
    }
    page.push_str(EXTENSIONS_HEAD);
    for flag in EXTENSIONS {
        let _ = writeln!(page, "{}", rest(flag));
    }
    page.push_str(NODES_HEAD);
    for NodeFlag { name, verb, note, test } in NODE_FLAGS {
        let _ = writeln!(page, "| {} | `{verb}` | {note} | `{test}` |", dashed(name));
    }
    page
}

/// A row behind the flag's own name.
fn rest(Flag { answer, test, note, .. }: &Flag) -> String {
    let (own, key, remark) = match answer {
        Answer::Flag { name, key } => (format!("--{name}"), (*key).to_owned(), (*note).to_owned()),
        Answer::Key(key) => (String::new(), (*key).to_owned(), (*note).to_owned()),
        Answer::Refused(why) => (String::new(), String::new(), format!("refused: {why}")),
    };
    format!("| {} | {} | {remark} | `{test}` |", code(own), code(key))
}

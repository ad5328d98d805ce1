//! How far a deploy is: bars on a terminal, else a line for each step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::convergence::ServiceProgress;
use crate::output;
use crate::wait::Goal;

/// More bars than this would fill the terminal: the rest is one bar.
const MOST_BARS: usize = 20;
/// A reason is only told when it has held for so long; most pass by themselves.
const REASON_AFTER: Duration = Duration::from_secs(2);

/// Shows progress on standard error.
pub(crate) struct Progress {
    /// `None` when lines are printed.
    bars: Option<MultiProgress>,
    drawn: BTreeMap<String, ProgressBar>,
    said: BTreeMap<String, String>,
    reasons: BTreeMap<(String, String), Instant>,
    told: BTreeSet<(String, String)>,
    started: Instant,
    subject: String,
}

impl Progress {
    pub(crate) fn new(goal: &Goal) -> Self {
        let subject = match goal {
            Goal::Stack { name, .. } => format!("stack `{name}` runs"),
            Goal::Services { replicas } => match replicas.as_slice() {
                [(name, _)] => format!("service `{name}` runs"),
                _ => "all services run".to_owned(),
            },
            Goal::Run { service, number } => format!("run {number} of `{service}` is complete"),
            Goal::Update { service } => format!("service `{service}` runs"),
            Goal::Drained { .. } | Goal::Gone { .. } => String::new(),
        };
        Self {
            bars: output::draws()
                .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))),
            drawn: BTreeMap::new(),
            said: BTreeMap::new(),
            reasons: BTreeMap::new(),
            told: BTreeSet::new(),
            started: Instant::now(),
            subject,
        }
    }

    /// Shows how far each service is.
    pub(crate) fn show(&mut self, services: &[ServiceProgress]) {
        if self.bars.is_some() {
            self.draw(services);
        } else {
            self.say(services);
        }
    }

    /// Ends with what was reached.
    pub(crate) fn finish(&mut self, services: &[ServiceProgress]) {
        self.stop();
        let tasks: usize = services.iter().map(|service| service.done).sum();
        if !self.subject.is_empty() {
            let tasks = if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
            let seconds = self.started.elapsed().as_secs_f64();
            output::talk(&format!("{} ({tasks}, {seconds:.1} s)", self.subject));
        }
    }

    /// Ends the drawing and leaves the last picture.
    pub(crate) fn stop(&mut self) {
        for bar in self.drawn.values() {
            bar.abandon();
        }
    }

    fn say(&mut self, services: &[ServiceProgress]) {
        for service in services {
            let words = service.words();
            if self.said.get(&service.key) != Some(&words) {
                output::talk(&format!("{}: {words}", service.key));
                self.said.insert(service.key.clone(), words);
            }
        }
        let now = Instant::now();
        let current: BTreeSet<(String, String)> =
            services.iter().flat_map(|service| service.stuck.iter().cloned()).collect();
        self.reasons.retain(|reason, _| current.contains(reason));
        for reason in current {
            let since = *self.reasons.entry(reason.clone()).or_insert(now);
            if now.duration_since(since) >= REASON_AFTER && !self.told.contains(&reason) {
                output::talk(&format!("  {}: {}", reason.0, reason.1));
                self.told.insert(reason);
            }
        }
    }

    fn draw(&mut self, services: &[ServiceProgress]) {
        let Some(bars) = &self.bars else { return };
        let width = services.iter().map(|service| service.key.len()).max().unwrap_or_default();
        for service in services.iter().take(MOST_BARS) {
            let bar = self.drawn.entry(service.key.clone()).or_insert_with(|| {
                let bar = bars.add(ProgressBar::new(0));
                bar.set_style(style());
                bar
            });
            let key = &service.key;
            bar.set_prefix(format!("{key:<width$}"));
            bar.set_length(u64::try_from(service.wanted.max(1)).unwrap_or(u64::MAX));
            let done = if service.wanted == 0 && service.leaving == 0 { 1 } else { service.done };
            bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
            let why = match service.stuck.first() {
                Some((task, why)) => format!("{}  {task}: {why}", service.words()),
                None => service.words(),
            };
            bar.set_message(why);
        }
        // Services that are gone keep no bar.
        self.drawn.retain(|key, bar| {
            let is_there = services.iter().any(|service| service.key == *key);
            if !is_there {
                bar.finish_and_clear();
            }
            is_there
        });
    }
}

fn style() -> ProgressStyle {
    let bar = if output::colours() { "{bar:20.green}" } else { "{bar:20}" };
    ProgressStyle::with_template(&format!("{{prefix}} [{bar}] {{wide_msg}}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

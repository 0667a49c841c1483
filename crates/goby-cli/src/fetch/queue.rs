//! Which task is next: one queue per host, so that no host stops another.
//!
//! ```text
//!   push ──> the host's queue ──> take (in flight) ──> done
//!                ▲                                       │
//!                └── list of retries, by due time <──────┘ put_back
//! ```
//!
//! - Of the hosts that have a task and may be asked now, the one with the fewest tasks in flight is
//!   next; among equals, the one that was last asked longest ago. So a slow host holds its share of
//!   the workers and no more.
//! - A host is left alone until the time that its rate (`--per-host`) or its Retry-After gives, or
//!   for a while if it has trouble (see `trouble.rs`). If it is down, its tasks are refused.
//! - A task that waits for its retry is in no queue and in no worker. When it is due it goes before
//!   its host's other tasks.
//! - A host is forgotten when there is nothing more to remember about it, so memory does not grow
//!   with the number of hosts.
//!
//! All of it is plain data. Time comes from the caller.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limits::burst;
use super::task::Task;
use super::trouble::{Health, Limits, Trouble};

/// A host's name and port.
pub(crate) type Host = Arc<str>;

/// What a worker can do now.
#[derive(Debug)]
pub(crate) enum Next {
    /// Do this task. It is in flight from now on.
    Task(Task),
    /// Do nothing before this time.
    At(Instant),
    /// Do nothing before a task comes or comes back.
    Nothing,
}

/// The tasks of all hosts.
#[derive(Debug)]
pub(crate) struct Queue {
    pace: Option<Pace>,
    limits: Limits,
    hosts: HashMap<Host, State>,
    /// Hosts that may be asked, by their number of tasks in flight, then by turn.
    ready: BTreeMap<(u32, u64), Host>,
    /// Hosts that are left alone, by the end of that time, then by turn.
    resting: BTreeMap<(Instant, u64), Host>,
    /// Tasks that wait for their retry, by due time, then by turn.
    retries: BTreeMap<(Instant, u64), Task>,
    /// Counts up. It makes keys different, and lets equal hosts take turns.
    turn: u64,
    /// Tasks in the hosts' queues.
    queued: usize,
    /// Bytes of the tasks in the hosts' queues and of those that wait for their retry.
    size: usize,
    in_flight: usize,
}

/// What is known of a host.
#[derive(Debug)]
struct State {
    tasks: VecDeque<Task>,
    in_flight: u32,
    /// The time when the requests so far are paid for, by the host's rate.
    paid_at: Instant,
    /// Until then the host wants to be left alone.
    rests_until: Instant,
    trouble: Trouble,
    place: Place,
}

/// The order that a host stands in, and its key there.
#[derive(Clone, Copy, Debug)]
enum Place {
    Nowhere,
    Ready((u32, u64)),
    Resting((Instant, u64)),
}

/// The rate of each host: a request uses up `interval`, and may be made up to `ahead` early.
/// Source: the generic cell rate algorithm.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    ahead: Duration,
}

impl Pace {
    fn per_second(rate: f64) -> Pace {
        let interval = Duration::from_secs_f64((1.0 / rate).min(1e9));
        Pace { interval, ahead: interval * (burst(rate) as u32 - 1) }
    }
}

impl Queue {
    /// Makes an empty queue. `per_host` is how many requests per second a host gets.
    pub(crate) fn new(per_host: Option<f64>, limits: Limits) -> Queue {
        Queue {
            pace: per_host.map(Pace::per_second),
            limits,
            hosts: HashMap::new(),
            ready: BTreeMap::new(),
            resting: BTreeMap::new(),
            retries: BTreeMap::new(),
            turn: 0,
            queued: 0,
            size: 0,
            in_flight: 0,
        }
    }

    /// How many bytes its tasks take, without those in flight.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// How many tasks are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing is left, and nothing can come back.
    pub(crate) fn is_over(&self) -> bool {
        self.queued + self.retries.len() + self.in_flight == 0
    }

    /// Adds a new task.
    pub(crate) fn push(&mut self, task: Task, now: Instant) {
        self.queue(task, now, VecDeque::push_back);
    }

    /// Takes the next task.
    pub(crate) fn take(&mut self, now: Instant) -> Next {
        self.wake_up(now);
        if let Some(host) = self.ready.first_key_value().map(|(_, host)| host.clone()) {
            return Next::Task(self.take_from(&host, now));
        }
        let times = [self.resting.keys().next(), self.retries.keys().next()].map(|key| key.map(|key| key.0));
        times.into_iter().flatten().min().map_or(Next::Nothing, Next::At)
    }

    /// Takes any task, due or not: the run was stopped, and every task needs an answer.
    pub(crate) fn take_any(&mut self, now: Instant) -> Next {
        while let Some((_, task)) = self.retries.pop_first() {
            self.size -= task.size();
            self.push(task, now);
        }
        let mut hosts = self.ready.values().chain(self.resting.values());
        let mut host = hosts.find(|&host| !self.hosts[host].tasks.is_empty()).cloned();
        if host.is_none() && self.queued > 0 {
            // It has as many in flight as it may have.
            host = self.hosts.iter().find(|(_, state)| !state.tasks.is_empty()).map(|(host, _)| host.clone());
        }
        host.map_or(Next::Nothing, |host| Next::Task(self.take_from(&host, now)))
    }

    /// Notes that a task of `host` is no longer in flight, and what it has told. The host is left
    /// alone until `rests_until`.
    pub(crate) fn done(&mut self, host: &Host, rests_until: Option<Instant>, health: Health, now: Instant) {
        self.in_flight -= 1;
        let limits = self.limits;
        self.change(host, now, |state| {
            state.trouble.note(health, state.in_flight, limits, now);
            state.in_flight -= 1;
            state.rests_until = rests_until.map_or(state.rests_until, |until| until.max(state.rests_until));
        });
    }

    /// Keeps a task until its retry is due.
    pub(crate) fn put_back(&mut self, task: Task, due: Instant) {
        self.turn += 1;
        self.size += task.size();
        self.retries.insert((due, self.turn), task);
    }

    fn queue(&mut self, task: Task, now: Instant, add: impl FnOnce(&mut VecDeque<Task>, Task)) {
        let host = task.host.clone();
        self.queued += 1;
        self.size += task.size();
        self.change(&host, now, |state| add(&mut state.tasks, task));
    }

    fn take_from(&mut self, host: &Host, now: Instant) -> Task {
        self.queued -= 1;
        self.in_flight += 1;
        let pace = self.pace;
        let task = self.change(host, now, |state| {
            state.in_flight += 1;
            let mut task = state.tasks.pop_front().expect("a host in these orders has a task");
            task.is_refused = state.trouble.is_down(now);
            if let Some(pace) = pace.filter(|_| !task.is_refused) {
                state.paid_at = state.paid_at.max(now) + pace.interval;
            }
            task
        });
        self.size -= task.size();
        task
    }

    /// Puts tasks and hosts back in order when their wait is over.
    fn wake_up(&mut self, now: Instant) {
        while let Some(entry) = self.retries.first_entry().filter(|entry| entry.key().0 <= now) {
            let task = entry.remove();
            self.size -= task.size();
            self.queue(task, now, VecDeque::push_front);
        }
        while let Some((_, host)) = self.resting.first_key_value().filter(|((time, _), _)| *time <= now) {
            let host = host.clone();
            self.change(&host, now, |_| ());
        }
    }

    /// Changes what is known of a host, and gives it the place that follows from that. Every change
    /// is made here.
    fn change<R>(&mut self, host: &Host, now: Instant, f: impl FnOnce(&mut State) -> R) -> R {
        let new = || State {
            tasks: VecDeque::new(),
            in_flight: 0,
            paid_at: now,
            rests_until: now,
            trouble: Trouble::default(),
            place: Place::Nowhere,
        };
        let state = self.hosts.entry(host.clone()).or_insert_with(new);
        match std::mem::replace(&mut state.place, Place::Nowhere) {
            Place::Nowhere => {}
            Place::Ready(key) => _ = self.ready.remove(&key),
            Place::Resting(key) => _ = self.resting.remove(&key),
        }
        let result = f(state);
        self.turn += 1;
        let ahead = self.pace.map_or(Duration::ZERO, |pace| pace.ahead);
        // A host without a task rests until it can be forgotten: from then on, a new entry would be
        // equal to it.
        let is_idle = state.tasks.is_empty();
        let paid_at = if is_idle { state.paid_at } else { state.paid_at.checked_sub(ahead).unwrap_or(now) };
        let trouble = if is_idle { state.trouble.until() } else { state.trouble.rests_until() };
        let mut time = paid_at.max(state.rests_until).max(trouble.unwrap_or(now));
        let is_down = state.trouble.is_down(now);
        if is_down && !is_idle {
            time = now;
        }
        let is_full = !is_down && state.in_flight >= state.trouble.limit(self.limits);
        if (is_idle || is_full) && state.in_flight > 0 {
            // It is in neither order, and gets a place when a task of it is done.
        } else if time > now {
            state.place = Place::Resting((time, self.turn));
            self.resting.insert((time, self.turn), host.clone());
        } else if is_idle {
            self.hosts.remove(host);
        } else {
            let key = (state.in_flight, self.turn);
            state.place = Place::Ready(key);
            self.ready.insert(key, host.clone());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::input::Job;

    fn task(url: &str) -> Task {
        Task::new(Job::argument(1, url))
    }

    /// A queue with these URLs, and a time.
    fn queue(per_host: Option<f64>, urls: &[&str]) -> (Queue, Instant) {
        let now = Instant::now();
        let mut queue = Queue::new(per_host, Limits::default());
        urls.iter().for_each(|url| queue.push(task(url), now));
        (queue, now)
    }

    /// The path of the next task.
    #[track_caller]
    fn next(queue: &mut Queue, now: Instant) -> String {
        match queue.take(now) {
            Next::Task(task) => task.text[7..].to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn host(name: &str) -> Host {
        format!("{name}:80").into()
    }

    #[test]
    fn hosts_take_turns_whatever_the_order_of_the_list() {
        let (mut queue, now) = queue(None, &["http://a/1", "http://a/2", "http://a/3", "http://b/1", "http://c/1"]);
        let order = [(); 5].map(|()| next(&mut queue, now));
        assert_eq!(order, ["a/1", "b/1", "c/1", "a/2", "a/3"]);
        assert!(matches!(queue.take(now), Next::Nothing));
        assert!(!queue.is_over(), "five are in flight");
    }

    #[test]
    fn a_slow_host_holds_its_share_and_no_more() {
        let urls: Vec<String> =
            (0..100).map(|n| format!("http://slow/{n}")).chain((0..100).map(|n| format!("http://fast/{n}"))).collect();
        let (mut queue, now) = queue(None, &urls.iter().map(String::as_str).collect::<Vec<_>>());
        let (mut slow, mut fast) = (0, 0);
        // Eight workers. The fast host answers at once, the slow one never does.
        while slow + fast < 100 {
            if next(&mut queue, now).starts_with("fast") {
                fast += 1;
                queue.done(&host("fast"), None, Health::Unknown, now);
            } else {
                slow += 1;
            }
        }
        assert_eq!((slow, fast), (1, 99));
    }

    #[test]
    fn a_rate_is_kept_for_each_host_by_itself() {
        let (mut queue, now) = queue(Some(10.0), &["http://a/1", "http://a/2", "http://b/1"]);
        assert_eq!([next(&mut queue, now), next(&mut queue, now)], ["a/1", "b/1"]);
        let then = now + Duration::from_millis(100);
        assert!(matches!(queue.take(now), Next::At(time) if time == then));
        assert!(matches!(queue.take(then - Duration::from_millis(1)), Next::At(time) if time == then));
        assert_eq!(next(&mut queue, then), "a/2");
    }

    #[test]
    fn a_fast_rate_lets_ten_milliseconds_worth_start_at_once() {
        let (mut queue, now) = queue(Some(300.0), &["http://a/1", "http://a/2", "http://a/3", "http://a/4"]);
        assert_eq!([(); 3].map(|()| next(&mut queue, now)), ["a/1", "a/2", "a/3"]);
        assert!(matches!(queue.take(now), Next::At(time) if time > now));
    }

    #[test]
    fn retry_after_holds_for_its_host_and_nobody_else() {
        let (mut queue, now) = queue(None, &["http://a/1", "http://a/2", "http://b/1", "http://b/2"]);
        let later = now + Duration::from_secs(2);
        let Next::Task(mut busy) = queue.take(now) else { panic!("there are four") };
        busy.attempts = 1;
        queue.done(&host("a"), Some(later), Health::Unknown, now);
        queue.put_back(busy, later);
        assert_eq!([next(&mut queue, now), next(&mut queue, now)], ["b/1", "b/2"]);
        assert!(matches!(queue.take(now), Next::At(time) if time == later));
        // The retry goes before the host's other tasks.
        assert_eq!([next(&mut queue, later), next(&mut queue, later)], ["a/1", "a/2"]);
        assert_eq!(queue.size(), 0);
    }

    #[test]
    fn a_retry_that_waits_holds_nobody_up() {
        let (mut queue, now) = queue(None, &["http://a/1", "http://a/2"]);
        let Next::Task(failed) = queue.take(now) else { panic!("there are two") };
        queue.done(&host("a"), None, Health::Unknown, now);
        queue.put_back(failed, now + Duration::from_secs(1));
        assert_eq!(next(&mut queue, now), "a/2");
        assert_eq!(next(&mut queue, now + Duration::from_secs(1)), "a/1");
    }

    #[test]
    fn a_host_gets_no_more_at_a_time_than_it_may() {
        let now = Instant::now();
        let mut queue = Queue::new(None, Limits { at_a_time: 2, failures: 0 });
        ["http://a/1", "http://a/2", "http://a/3", "http://b/1"].iter().for_each(|url| queue.push(task(url), now));
        assert_eq!([(); 3].map(|()| next(&mut queue, now)), ["a/1", "b/1", "a/2"]);
        assert!(matches!(queue.take(now), Next::Nothing));
        queue.done(&host("a"), None, Health::Fine, now);
        assert_eq!(next(&mut queue, now), "a/3");
        queue.push(task("http://a/4"), now);
        assert!(matches!(queue.take_any(now), Next::Task(_)), "a stopped run takes all");
    }

    #[test]
    fn a_host_that_is_down_has_its_tasks_refused() {
        let now = Instant::now();
        let mut queue = Queue::new(None, Limits { at_a_time: 2, failures: 2 });
        (0..6).for_each(|n| queue.push(task(&format!("http://a/{n}")), now));
        let refused = |queue: &mut Queue, health, now| match queue.take(now) {
            Next::Task(task) => {
                queue.done(&host("a"), None, health, now);
                task.is_refused
            }
            other => panic!("{other:?}"),
        };
        assert!(!refused(&mut queue, Health::Down, now));
        assert!(matches!(queue.take(now), Next::At(_)), "it is left alone for a moment");
        let now = now + Duration::from_secs(1);
        assert!(!refused(&mut queue, Health::Down, now));
        assert!(refused(&mut queue, Health::Unknown, now));
        assert!(refused(&mut queue, Health::Unknown, now));
        let later = now + Duration::from_secs(61);
        assert!(!refused(&mut queue, Health::Fine, later));
        assert!(!refused(&mut queue, Health::Fine, later));
        queue.take(later + Duration::from_secs(1000));
        assert_eq!(queue.hosts.len(), 0);
    }

    #[test]
    fn a_stopped_run_takes_all_due_or_not() {
        let (mut queue, now) = queue(Some(0.1), &["http://a/1", "http://a/2", "http://b/1"]);
        queue.put_back(task("http://c/1"), now + Duration::from_secs(100));
        let mut taken = 0;
        while let Next::Task(task) = queue.take_any(now) {
            queue.done(&task.host.clone(), None, Health::Unknown, now);
            taken += 1;
        }
        assert_eq!(taken, 4);
        assert!(queue.is_over());
        assert_eq!(queue.size(), 0);
    }

    #[test]
    fn its_size_is_that_of_the_tasks_whatever_way_they_go() {
        let (mut queue, now) = queue(None, &["http://a/1", "http://a/2", &format!("http://a/{}", "x".repeat(1 << 20))]);
        assert!(queue.size() > 1 << 20);
        let Next::Task(busy) = queue.take(now) else { panic!("there are three") };
        let without_it = queue.size();
        queue.put_back(busy, now);
        assert!(queue.size() > without_it);
        // The retry is due, and goes through the host's queue.
        (0..3).for_each(|_| _ = next(&mut queue, now));
        assert_eq!(queue.size(), 0);
    }

    #[test]
    fn hosts_are_forgotten() {
        let mut now = Instant::now();
        let mut queue = Queue::new(Some(5.0), Limits::default());
        for n in 0..1000 {
            queue.push(task(&format!("http://h{n}/")), now);
            next(&mut queue, now);
            queue.done(&host(&format!("h{n}")), None, Health::Unknown, now);
            now += Duration::from_millis(50);
        }
        queue.take(now);
        assert!(queue.hosts.len() <= 5, "{}", queue.hosts.len());
        queue.take(now + Duration::from_secs(1));
        assert_eq!((queue.hosts.len(), queue.resting.len(), queue.ready.len()), (0, 0, 0));
    }
}

//! goby's form of the peer workloads, through goby's public API alone.
//!
//!     goby-bench NAME...          these workloads (`all` means each of WORKLOADS, and none of the others)
//!     goby-bench echo-server ADDR | http-server ADDR | http-slow ADDR
//!     goby-bench echo-load ADDR CONNS SECONDS SIZE | fetch ADDR N CONCURRENCY
//!
//! Names, sizes and output lines ("name value unit") are those of the Go, tokio and may programs,
//! so that `peers/run.py --peer PATH=goby` measures this binary beside them. A workload runs as the
//! first goroutine of the default runtime; GOBY_MAXPROCS sets its workers. Names that end in
//! `_async` are the same workload with `Send` futures in place of goroutines, those in `_pattern`
//! the same with the ready-made form of `goby::pattern`; neither has a twin.

mod channels;
mod cliffs;
mod files;
mod goroutines;
mod locks;
mod many;
mod measure;
mod net;
mod patterns;

use std::process::ExitCode;

use cliffs::{apart, balance, burst, machine, memory, scale};

/// In the order in which `all` runs them.
const WORKLOADS: &[(&str, fn())] = &[
    ("spawn", goroutines::spawn),
    ("spawn_async", goroutines::spawn_async),
    ("spawn_join", goroutines::spawn_join),
    ("yield", goroutines::yields),
    ("pingpong", channels::pingpong),
    ("pingpong_async", channels::pingpong_async),
    ("chan_spsc_128", channels::spsc_128),
    ("chan_spsc_0", channels::spsc_0),
    ("chan_mpmc_4x4_128", channels::mpmc),
    ("fanin_100_0", channels::fanin),
    ("select_2_blocking", channels::select_blocking),
    ("select_2_default", channels::select_default),
    ("mutex_uncontended", locks::mutex_uncontended),
    ("mutex_8", locks::mutex_contended),
    ("skynet_1m", goroutines::skynet),
    ("sieve_1000", patterns::sieve),
    ("idle_1m", many::idle),
    ("idle_1m_async", many::idle_async),
    ("sleep_1m", many::sleepers),
    ("sleep_1m_async", many::sleepers_async),
    ("worker_pool_8", patterns::worker_pool),
    ("worker_pool_8_pattern", patterns::worker_pool_pattern),
    ("worker_pool_8_cpu", patterns::worker_pool_cpu),
    ("worker_pool_8_cpu_idle", patterns::worker_pool_cpu_idle),
    ("fanout_fanin_8", patterns::fanout_fanin),
    ("fanout_fanin_8_pattern", patterns::fanout_fanin_pattern),
    ("context_cancel_100k", many::context_cancel),
    ("context_cancel_100k_async", many::context_cancel_async),
    ("timer_start_stop", many::timer_start_stop),
];

/// The places where a runtime is likely to fall off; README.md describes them.
const CLIFFS: &[(&str, fn())] = &[
    ("machine", machine::machine),
    ("pingpong_apart", apart::pingpong),
    ("chan_spsc_128_apart", apart::spsc_128),
    ("chan_spsc_0_apart", apart::spsc_0),
    ("chan_mpmc_4x4_128_apart", apart::mpmc),
    ("fanin_100_0_apart", apart::fanin),
    ("burst_10us", burst::burst_10us),
    ("burst_100us", burst::burst_100us),
    ("burst_1ms", burst::burst_1ms),
    ("idle_program", burst::idle_program),
    ("imbalance_8", balance::imbalance),
    ("hog_goroutines", balance::hog_goroutines),
    ("hog_futures", balance::hog_futures),
    ("life_10m", memory::life),
    ("release_1m", memory::release),
    ("release_1m_async", memory::release_async),
    ("scale_spawn", scale::spawn),
    ("scale_wake", scale::wake),
    ("scale_timer", scale::timer),
    ("scale_select", scale::select),
    ("scale_context", scale::context),
];

/// Files and processes, for files.py: goby's form, and std's.
const FILES: &[(&str, fn())] = &[
    ("lines_1g", files::lines),
    ("lines_1g_std", files::lines_std),
    ("run_10k", files::run),
    ("run_10k_std", files::run_std),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let Some(command) = net::Command::parse(&args) {
        return goby::run(|| command.run());
    }
    let known = |arg: &&str| *arg == "all" || WORKLOADS.iter().chain(CLIFFS).chain(FILES).any(|(name, _)| name == arg);
    if args.is_empty() || !args.iter().all(known) {
        let names: Vec<&str> = WORKLOADS.iter().chain(CLIFFS).chain(FILES).map(|(name, _)| *name).collect();
        eprintln!("usage: goby-bench NAME... (all, {})\n       goby-bench {}", names.join(", "), net::USAGE);
        return ExitCode::from(2);
    }
    for (name, workload) in WORKLOADS {
        if args.contains(name) || args.contains(&"all") {
            goby::run(workload);
        }
    }
    for (name, other) in CLIFFS.iter().chain(FILES) {
        if args.contains(name) {
            goby::run(other);
        }
    }
    ExitCode::SUCCESS
}

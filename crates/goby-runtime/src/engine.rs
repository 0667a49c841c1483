//! The way of a goroutine, in reading order.

// It is started, parks, and is woken.
pub(crate) mod go;
pub(crate) mod birth;
pub(crate) mod goroutine;
pub(crate) mod attributes;
pub(crate) mod carried;
pub(crate) mod wait_reason;
pub(crate) mod park;
pub(crate) mod parker;
pub(crate) mod task_wait;
pub(crate) mod unparker;
pub(crate) mod wake_list;
pub(crate) mod reach;
pub(crate) mod checkpoint;
pub(crate) mod wait_queue;
pub(crate) mod gate;

// It ends.
pub(crate) mod goexit;
pub(crate) mod join_error;
pub(crate) mod unjoined;
pub(crate) mod owed;
pub(crate) mod scope;
pub(crate) mod errand;

// It is run.
pub(crate) mod tuning;
pub(crate) mod run_queue;
pub(crate) mod registry;
pub(crate) mod worker;
pub(crate) mod switch;
pub(crate) mod idle;
pub(crate) mod frames;
pub(crate) mod overflow;
pub(crate) mod requests;

// It waits for something outside.
pub(crate) mod io;

// The runtime that it belongs to, and the threads that keep that going.
pub(crate) mod settings;
pub(crate) mod shared;
pub(crate) mod stacks;
pub(crate) mod closing;
pub(crate) mod current;
pub(crate) mod runtimes;
pub(crate) mod retired;
pub(crate) mod threads;
pub(crate) mod orphans;
pub(crate) mod monitor;
pub(crate) mod suspect;
pub(crate) mod watch;

//! Values that outlive their future, and need tokio where they are dropped.

use std::sync::atomic::Ordering;

use goby::go;
use goby_tokio::{Bridge, Entered, block_on};
use tokio::runtime::Handle;

use crate::{NeedsTokio, is_entered};

#[goby::test(workers = 1)]
fn it_is_dropped_with_tokio_entered_by_a_question_mark() {
    let (value, was_entered) = NeedsTokio::new();
    let fails = move || -> Result<(), &'static str> {
        let _value = Entered::new(block_on(async { value }));
        Err("the error itself")?;
        Ok(())
    };
    assert_eq!(fails(), Err("the error itself"));
    assert!(was_entered.load(Ordering::Acquire));
    assert!(!is_entered());
}

/// A destructor that panicked here would abort the process.
#[goby::test(workers = 1)]
fn it_is_dropped_with_tokio_entered_by_a_panic() {
    struct StartsATask;
    impl Drop for StartsATask {
        fn drop(&mut self) {
            tokio::spawn(async {});
        }
    }
    let panics = go(|| {
        let _value = Entered::new(block_on(async { StartsATask }));
        panic!("in the middle of something");
    });
    assert!(panics.join().unwrap_err().to_string().contains("in the middle of something"));
    assert!(!is_entered());
}

#[goby::test(workers = 1)]
fn its_own_runtime_is_entered() {
    struct Asks(tokio::runtime::Id);
    impl Drop for Asks {
        fn drop(&mut self) {
            assert_eq!(Handle::current().id(), self.0);
        }
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let other = Bridge::new(tokio.handle().clone());
    drop(other.entered(Asks(tokio.handle().id())));
    drop(Entered::new(Asks(goby_tokio::handle().id())));
    goby::blocking(|| drop(tokio));
}

#[goby::test(workers = 1)]
fn what_is_taken_out_is_the_callers() {
    let (value, was_entered) = NeedsTokio::new();
    let value = Entered::into_inner(Entered::new(value));
    drop(value);
    assert!(!was_entered.load(Ordering::Acquire));
    let mut text = Entered::new(String::from("a"));
    text.push('b');
    assert_eq!((text.len(), format!("{text:?}")), (2, "\"ab\"".to_owned()));
}

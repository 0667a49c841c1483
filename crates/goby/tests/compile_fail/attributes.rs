//! What the attributes refuse, each with what to do.

#[goby::test]
async fn an_async_test() {}

#[goby::test]
fn a_test_with_a_parameter(_n: u32) {}

#[goby::test]
fn a_generic_test<T>() {}

#[goby::test(timeout = "soon")]
fn a_bad_time() {}

#[goby::test(workers = 0)]
fn no_workers() {}

#[goby::test(worker = 1)]
fn an_unknown_option() {}

#[goby::test]
struct NoFunction;

#[goby::main(workers = 2)]
fn a_main_with_options() {}

fn main() {}

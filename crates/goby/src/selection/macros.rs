//! The `select!` macro. It turns its arms into cases on the caller's stack and runs the passes over
//! them. Then it drops the cases, so that an arm may reassign the variables that it waited on. Only
//! then it runs the arm that was chosen.
//!
//! Steps, each a group of rules of a second, hidden macro, so that the page of `select!` shows its
//! syntax and not these:
//!
//! - *parse* turns every arm into `(kind operands guard pattern body)`. It evaluates guards on its
//!   way, so `guard` is a variable.
//! - *build* makes the cases, one nested `match` per case, so that temporaries in operands live
//!   long enough. It gives a nested tuple of their results.
//! - *dispatch* takes that tuple apart and runs the arm that has a result.
//!
//! An operand under a guard is evaluated in one branch of an `if`. There a temporary lives on only
//! if it is extended as in a `let`.

/// Waits for several channel operations and carries out exactly one.
///
/// ```text
/// select! {
///     biased;                                         // optional: the first ready case wins
///     recv(RECEIVER) -> PATTERN => BODY,              // PATTERN gets a Result<T, RecvError>
///     send(SENDER, VALUE) -> PATTERN => BODY,         // PATTERN gets a Result<(), SendError<T>>
///     send(SENDER, ref SLOT) -> PATTERN => BODY,      // sends what is in SLOT: Option<T>
///     recv(RECEIVER) -> PATTERN if CONDITION => BODY, // any recv or send may have a condition
///     default => BODY,                                // no case is ready now
///     default(DURATION) => BODY,                      // no case was ready for so long
/// }
/// ```
///
/// There may be any number of `recv` and `send` cases, in any order, and at most one `default`. A
/// body is an expression, with a comma behind it, or a block. The value of the `select!` is that of
/// the body that ran.
///
/// ```
/// use goby::{chan, go, select, time};
/// use std::time::Duration;
///
/// let (tx, numbers) = chan::bounded(0);
/// go(move || (1..=3).try_for_each(|n| tx.send(n)));
///
/// let late = time::after(Duration::from_secs(60));
/// let mut sum = 0;
/// let outcome = loop {
///     select! {
///         recv(numbers) -> n => match n {
///             Ok(n) => sum += n,
///             Err(_) => break "all", // closed: its last sender is gone
///         },
///         recv(late) -> _ => break "late",
///     }
/// };
/// assert_eq!((sum, outcome), (6, "all"));
/// ```
///
/// # Cases
///
/// - `recv(receiver) -> value`: `value` is a `Result<T, RecvError>`. A closed channel is ready,
///   with the error.
/// - `send(sender, value) -> result`: `result` is a `Result<(), SendError<T>>`. The value is
///   evaluated once, on entry, as in Go. If another case happens it is dropped.
/// - `send(sender, ref slot) -> result`, with a variable `slot: Option<T>`: the value stays in
///   `slot` unless it is sent. The case is disabled while `slot` is `None`.
/// - `default` is taken when no case is ready at once; `default(duration)`, when no case gets ready
///   in that time.
/// - `… if condition` disables a case if the condition does not hold. Its operands are not
///   evaluated then. A [`never`](fn@crate::chan::never) disables a case, too.
///
/// # Rules
///
/// - Guards are evaluated first, then operands, both in source order.
/// - All readiness is judged at one instant. Of several ready cases each is chosen with the same
///   probability. The position of `default` does not matter.
/// - Arms run after the select is over: they may use `break`, `continue`, `return` and `?`, and
///   assign to the variables that were waited on.
/// - `select! {}` waits forever.
///
/// For cases known only at run time, see [`Select`](crate::chan::Select). For loops over `select!`,
/// see the [guide](crate::guide::channels_and_select).
///
/// ```
/// use goby::chan::{self, Receiver};
/// use goby::select;
///
/// let (tx, rx) = chan::bounded(1);
/// tx.send(7)?;
/// // An operand under a guard may rely on it.
/// let extra: Option<Receiver<i32>> = None;
/// let value = select! {
///     recv(extra.as_ref().unwrap()) -> value if extra.is_some() => value?,
///     recv(rx) -> value => value?,
/// };
/// assert_eq!(value, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Biased
///
/// `select! { biased; … }` takes the first case that is ready, in source order; a plain select
/// would choose at random. If none is ready yet, it takes the case that happens first, as a plain
/// select does. A case that is always ready keeps the cases below it from happening.
///
/// ```
/// use goby::{chan, select};
///
/// let (urgent_tx, urgent) = chan::bounded(1);
/// let (work_tx, work) = chan::bounded(1);
/// work_tx.send("work")?;
/// urgent_tx.send("urgent")?;
/// let first = select! {
///     biased;
///     recv(urgent) -> message => message?,
///     recv(work) -> message => message?,
/// };
/// assert_eq!(first, "urgent");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine, or puts the OS thread to sleep, unless there is a plain `default`.
///
/// Source: Go's `select` statement; the syntax is crossbeam's, `biased;` is tokio's.
#[doc(alias = "select_biased")]
#[macro_export]
macro_rules! select {
    (biased; $($arms:tt)*) => { $crate::__select!(@parse [biased] [] $($arms)*) };
    ($($arms:tt)*) => { $crate::__select!(@parse [fair] [] $($arms)*) };
}

/// The steps of [`select!`](crate::select!); see the head of this file.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // Parse: one arm at a time, its body a block or an expression.
    (@parse [$mode:ident] []) => { $crate::__private::forever() };
    (@parse [$mode:ident $($cases:tt)*] [$($default:tt)*]) => {
        match {
            let results = $crate::__select!(@build $mode [] [$($default)*] $($cases)*);
            results
        } {
            results => $crate::__select!(@dispatch results [$($default)*] $($cases)*),
        }
    };
    (@parse $cases:tt $default:tt , $($rest:tt)*) => {
        $crate::__select!(@parse $cases $default $($rest)*)
    };
    (@parse $cases:tt $default:tt recv($r:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:block $($rest:tt)*) => {
        $crate::__select!(@add $cases $default (recv ($r) ($($g)?) ($p) $body) $($rest)*)
    };
    (@parse $cases:tt $default:tt recv($r:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@add $cases $default (recv ($r) ($($g)?) ($p) $body) $($rest)*)
    };
    (@parse $cases:tt $default:tt recv($r:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:expr) => {
        $crate::__select!(@add $cases $default (recv ($r) ($($g)?) ($p) $body))
    };
    (@parse $cases:tt $default:tt send($s:expr, ref $x:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:block $($rest:tt)*) => {
        $crate::__select!(@add $cases $default (slot ($s, $x) ($($g)?) ($p) $body) $($rest)*)
    };
    (@parse $cases:tt $default:tt send($s:expr, ref $x:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@add $cases $default (slot ($s, $x) ($($g)?) ($p) $body) $($rest)*)
    };
    (@parse $cases:tt $default:tt send($s:expr, ref $x:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:expr) => {
        $crate::__select!(@add $cases $default (slot ($s, $x) ($($g)?) ($p) $body))
    };
    (@parse $cases:tt $default:tt send($s:expr, $x:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:block $($rest:tt)*) => {
        $crate::__select!(@add $cases $default (send ($s, $x) ($($g)?) ($p) $body) $($rest)*)
    };
    (@parse $cases:tt $default:tt send($s:expr, $x:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@add $cases $default (send ($s, $x) ($($g)?) ($p) $body) $($rest)*)
    };
    (@parse $cases:tt $default:tt send($s:expr, $x:expr $(,)?) -> $p:pat $(if $g:expr)? => $body:expr) => {
        $crate::__select!(@add $cases $default (send ($s, $x) ($($g)?) ($p) $body))
    };
    (@parse $cases:tt [] default $(($($t:expr $(,)?)?))? => $body:block $($rest:tt)*) => {
        $crate::__select!(@parse $cases [(($($($t)?)?) $body)] $($rest)*)
    };
    (@parse $cases:tt [] default $(($($t:expr $(,)?)?))? => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@parse $cases [(($($($t)?)?) $body)] $($rest)*)
    };
    (@parse $cases:tt [] default $(($($t:expr $(,)?)?))? => $body:expr) => {
        $crate::__select!(@parse $cases [(($($($t)?)?) $body)])
    };
    (@parse $cases:tt [$($default:tt)+] default $($rest:tt)*) => {
        compile_error!("a select has at most one `default` case")
    };
    (@parse $cases:tt $default:tt $($rest:tt)*) => {
        compile_error!(concat!(
            "expected `recv(receiver) -> value => …`, `send(sender, value) -> result => …`, `default => …` or ",
            "`default(duration) => …`, each with a comma after an expression; a case may have a guard before its `=>`, as in ",
            "`recv(receiver) -> value if condition => …`; `biased;` may stand before all; found `",
            stringify!($($rest)*),
            "`"
        ))
    };
    (@add [$($cases:tt)*] $default:tt ($kind:ident $operands:tt () $p:tt $body:expr) $($rest:tt)*) => {
        $crate::__select!(@parse [$($cases)* ($kind $operands () $p $body)] $default $($rest)*)
    };
    (@add [$($cases:tt)*] $default:tt ($kind:ident $operands:tt ($g:expr) $p:tt $body:expr) $($rest:tt)*) => {{
        let guard: bool = $g;
        $crate::__select!(@parse [$($cases)* ($kind $operands (guard) $p $body)] $default $($rest)*)
    }};

    // Build: `mode [cases made] [default] cases to make…`.
    (@build $mode:ident [$($case:ident)*] $default:tt (recv ($r:expr) () $p:tt $body:expr) $($rest:tt)*) => {
        match $crate::__private::RecvCase::new(match &$r { operand => operand }) {
            mut case => $crate::__select!(@build $mode [$($case)* case] $default $($rest)*),
        }
    };
    (@build $mode:ident [$($case:ident)*] $default:tt (recv ($r:expr) ($g:ident) $p:tt $body:expr) $($rest:tt)*) => {{
        let operand: &$crate::chan::Receiver<_> = if $g { &$r } else { $crate::__private::no_receiver() };
        match $crate::__private::RecvCase::new(operand) {
            mut case => $crate::__select!(@build $mode [$($case)* case] $default $($rest)*),
        }
    }};
    (@build $mode:ident [$($case:ident)*] $default:tt (send ($s:expr, $x:expr) () $p:tt $body:expr) $($rest:tt)*) => {
        match $crate::__private::SendCase::new((match &$s { operand => operand }), ::core::option::Option::Some($x)) {
            mut case => $crate::__select!(@build $mode [$($case)* case] $default $($rest)*),
        }
    };
    (@build $mode:ident [$($case:ident)*] $default:tt (send ($s:expr, $x:expr) ($g:ident) $p:tt $body:expr) $($rest:tt)*) => {{
        let operand: &$crate::chan::Sender<_> = if $g { &$s } else { $crate::__private::no_sender() };
        let value = if $g { ::core::option::Option::Some($x) } else { ::core::option::Option::None };
        match $crate::__private::SendCase::new(operand, value) {
            mut case => $crate::__select!(@build $mode [$($case)* case] $default $($rest)*),
        }
    }};
    (@build $mode:ident [$($case:ident)*] $default:tt (slot ($s:expr, $x:expr) () $p:tt $body:expr) $($rest:tt)*) => {
        match $crate::__private::SendCase::from_slot((match &$s { operand => operand }), &mut $x) {
            mut case => $crate::__select!(@build $mode [$($case)* case] $default $($rest)*),
        }
    };
    (@build $mode:ident [$($case:ident)*] $default:tt (slot ($s:expr, $x:expr) ($g:ident) $p:tt $body:expr) $($rest:tt)*) => {{
        let operand: &$crate::chan::Sender<_> = if $g { &$s } else { $crate::__private::no_sender() };
        let slot: &mut ::core::option::Option<_> = if $g { &mut $x } else { &mut ::core::option::Option::None };
        match $crate::__private::SendCase::from_slot(operand, slot) {
            mut case => $crate::__select!(@build $mode [$($case)* case] $default $($rest)*),
        }
    }};
    // All cases are made: run, and give the results. The arms run after the cases are gone.
    (@build $mode:ident [$($case:ident)*] []) => {{
        if !$crate::__private::wait($crate::__private::Choice::$mode(), &mut $crate::__select!(@tuple $($case)*), || $crate::__private::Until::Forever) {
            $crate::__select!(@run $mode [$($case)*] $crate::__private::Until::Forever);
        }
        $crate::__select!(@results $($case)*)
    }};
    (@build $mode:ident [$($case:ident)*] [(() $body:expr)]) => {{
        if $crate::__private::look($crate::__private::Choice::$mode(), &mut $crate::__select!(@tuple $($case)*)) == $crate::__private::Look::Unclear {
            $crate::__select!(@run $mode [$($case)*] $crate::__private::Until::Now);
        }
        $crate::__select!(@results $($case)*)
    }};
    (@build $mode:ident [$($case:ident)*] [(($timeout:expr) $body:expr)]) => {{
        let timeout = $timeout;
        if !$crate::__private::wait($crate::__private::Choice::$mode(), &mut $crate::__select!(@tuple $($case)*), || $crate::__private::until(timeout)) {
            $crate::__select!(@run $mode [$($case)*] $crate::__private::until(timeout));
        }
        $crate::__select!(@results $($case)*)
    }};
    (@run $mode:ident [$($case:ident)*] $until:expr) => {
        $crate::__private::run(
            $crate::__private::Choice::$mode(),
            &mut [$(&mut $case as &mut dyn $crate::__private::Case),*],
            $until,
        )
    };
    (@tuple) => { () };
    (@tuple $case:ident $($rest:ident)*) => { (&mut $case, $crate::__select!(@tuple $($rest)*)) };
    (@results) => { () };
    (@results $case:ident $($rest:ident)*) => { ($case.take(), $crate::__select!(@results $($rest)*)) };

    // Dispatch: `results default cases…`.
    (@dispatch $results:ident [$($default:tt)*] ($kind:tt $operands:tt $guard:tt ($p:pat) $body:expr) $($rest:tt)*) => {
        match $results {
            (::core::option::Option::Some(result), _) => {
                let $p = result;
                $body
            }
            (::core::option::Option::None, results) => $crate::__select!(@dispatch results [$($default)*] $($rest)*),
        }
    };
    (@dispatch $results:ident []) => {{
        let () = $results;
        ::core::unreachable!("a select without default ends with one of its cases")
    }};
    (@dispatch $results:ident [($timeout:tt $body:expr)]) => {{
        let () = $results;
        $body
    }};
}

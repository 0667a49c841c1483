//! The attributes of a goroutine: a name, labels, its goroutine-locals, and the scopes that count
//! it.
//!
//! They have two parts with different lifetimes. The part that children *inherit* (labels,
//! inherited locals, scopes) is immutable and shared: a change makes a new one, and a child gets a
//! reference. The goroutine's *own* part (name, own locals) is touched by its home thread alone, so
//! locals need not be `Send`. A goroutine without attributes pays two null words.
//!
//! An OS thread has attributes of its own. A future uses those of the thread that polls it.

use std::any::{Any, TypeId};
use std::cell::UnsafeCell;
use std::fmt;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::discard::discard;
use crate::base::order::Order;
use crate::engine::carried::Carried;
use crate::engine::errand::Foreign;
use crate::engine::worker;
use crate::engine::worker::Worker;

/// Rounds of destructors at a goroutine's end: if they make new locals again and again, the locals
/// after the last round are leaked. POSIX's number for threads.
const DESTRUCTOR_ROUNDS: usize = 4;

/// Names a local: the address of its static, and its type, so that no two locals have the same key.
type Key = (usize, TypeId);

/// What children inherit.
#[derive(Clone, Default)]
pub(crate) struct Inherited {
    pub(crate) labels: Vec<(Arc<str>, Arc<str>)>,
    locals: Vec<(Key, Arc<dyn Any + Send + Sync>)>,
    /// The scopes that a goroutine was started in, the innermost last.
    pub(crate) scopes: Vec<u64>,
    /// For the locals.
    _foreign: Foreign,
}

impl Inherited {
    fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.locals.is_empty() && self.scopes.is_empty()
    }

    /// Adds a label, or replaces the one with this key.
    pub(crate) fn set_label(&mut self, key: Arc<str>, value: Arc<str>) {
        match self.labels.iter_mut().find(|(other, _)| *other == key) {
            Some(label) => label.1 = value,
            None => self.labels.push((key, value)),
        }
    }
}

#[derive(Default)]
struct Own {
    name: Option<Arc<str>>,
    locals: Vec<(Key, Rc<dyn Any>)>,
    /// Those that are dropped after all others, see [`Local::dropped_last`].
    last: Vec<(Key, Rc<dyn Any>)>,
    /// What takes off and puts on what the goroutine carries.
    carried: Option<&'static dyn Carried>,
}

/// The attributes of one goroutine or thread.
///
/// No method returns a reference into the cells, or runs user code while it has one. So the one
/// thread that uses the cells never has two references into them.
#[derive(Default)]
pub(crate) struct Attributes {
    inherited: UnsafeCell<Option<Arc<Inherited>>>,
    own: UnsafeCell<Option<Box<Own>>>,
}

impl Attributes {
    /// Makes the attributes of a new goroutine.
    #[inline]
    pub(crate) fn new(inherited: Option<Arc<Inherited>>, name: Option<Arc<str>>) -> Attributes {
        let own = name.map(|name| Box::new(Own { name: Some(name), ..Own::default() }));
        Attributes { inherited: UnsafeCell::new(inherited), own: UnsafeCell::new(own) }
    }

    #[inline]
    pub(crate) fn inherited(&self) -> Option<Arc<Inherited>> {
        // SAFETY: one thread, and the borrow ends here; cloning an `Arc` runs no user code.
        unsafe { &*self.inherited.get() }.clone()
    }

    /// Replaces the inherited part; returns the old one, for the caller to drop.
    fn set_inherited(&self, new: Option<Arc<Inherited>>) -> Option<Arc<Inherited>> {
        // SAFETY: as in `inherited`.
        std::mem::replace(unsafe { &mut *self.inherited.get() }, new)
    }

    pub(crate) fn name(&self) -> Option<Arc<str>> {
        // SAFETY: as in `inherited`.
        unsafe { &*self.own.get() }.as_ref()?.name.clone()
    }

    fn local(&self, key: Key) -> Option<Rc<dyn Any>> {
        // SAFETY: as in `inherited`; so is cloning an `Rc`.
        let own = unsafe { &*self.own.get() }.as_ref()?;
        let mut all = own.locals.iter().chain(&own.last);
        all.find(|(other, _)| *other == key).map(|(_, value)| value.clone())
    }

    fn add_local(&self, key: Key, value: Rc<dyn Any>, is_last: bool) {
        // SAFETY: as in `inherited`; pushing runs no user code.
        let own = unsafe { &mut *self.own.get() }.get_or_insert_default();
        if is_last { &mut own.last } else { &mut own.locals }.push((key, value));
    }

    /// Takes the locals, or those that are dropped last.
    fn take_locals(&self, last: bool) -> Vec<(Key, Rc<dyn Any>)> {
        // SAFETY: as in `inherited`.
        let Some(own) = (unsafe { &mut *self.own.get() }) else { return Vec::new() };
        std::mem::take(if last { &mut own.last } else { &mut own.locals })
    }

    pub(crate) fn carried(&self) -> Option<&'static dyn Carried> {
        // SAFETY: as in `inherited`.
        unsafe { &*self.own.get() }.as_ref()?.carried
    }

    pub(crate) fn set_carried(&self, carried: &'static dyn Carried) {
        // SAFETY: as in `inherited`.
        unsafe { &mut *self.own.get() }.get_or_insert_default().carried = Some(carried);
    }

    fn take_own(&self) -> Option<Box<Own>> {
        // SAFETY: as in `inherited`.
        unsafe { &mut *self.own.get() }.take()
    }

    /// Returns whether there is anything to clear.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: as in `inherited`.
        unsafe { (*self.own.get()).is_none() && (*self.inherited.get()).is_none() }
    }

    /// Drops all attributes at the end of a goroutine, and passes the panics of destructors to
    /// `report`. User code runs here: the destructors of locals, which may make new locals.
    #[cold]
    pub(crate) fn clear(&self, mut report: impl FnMut(Box<dyn Any + Send>)) {
        // Until the last local is dropped the goroutine carries what it has carried before: a guard
        // of a span may lie in a local, and a destructor may wait.
        for last in [false, true, false] {
            self.drop_locals(last, &mut report);
        }
        if let Some(own) = self.take_own() {
            // What was made again in the last round is leaked; the name is not.
            let Own { locals, last, .. } = *own;
            std::mem::forget((locals, last));
        }
        // Shared with children: the last holder drops the values.
        if let Some(inherited) = self.set_inherited(None).and_then(Arc::into_inner) {
            inherited.locals.into_iter().filter_map(|local| discard(local).err()).for_each(report);
        }
    }

    fn drop_locals(&self, last: bool, report: &mut impl FnMut(Box<dyn Any + Send>)) {
        for _ in 0..DESTRUCTOR_ROUNDS {
            let locals = self.take_locals(last);
            if locals.is_empty() {
                break;
            }
            // Drop each local by itself: if two destructors in one list panicked, the second would
            // abort the process.
            locals.into_iter().filter_map(|local| discard(local).err()).for_each(&mut *report);
        }
    }

    /// Leaks the locals that destructors have made again: the record may be freed by another
    /// thread, or by the scheduler.
    pub(crate) fn leak(&self) {
        std::mem::forget((self.take_own(), self.set_inherited(None)));
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attributes(..)")
    }
}

/// Runs `f` on the attributes of the caller. It must not run user code, nor park.
fn with_current<R>(f: impl FnOnce(&Attributes) -> R) -> Option<R> {
    thread_local! {
        /// The attributes of an OS thread.
        static THREAD: Attributes = Attributes::default();
    }
    match worker::current_goroutine() {
        // SAFETY: the goroutine runs here, so its record is alive and this is its thread.
        Some(g) => Some(f(&unsafe { g.as_ref() }.attributes)),
        // None while a thread ends.
        None => THREAD.try_with(f).ok(),
    }
}

/// Tells ThreadSanitizer that the names and labels that the caller has made come before
/// [`can_be_read`]. A look at goroutines gets them by a way that ThreadSanitizer is told nothing
/// of.
pub(crate) fn can_be_shown() {
    SHOWN.precede();
}

/// The other end of [`can_be_shown`].
pub(crate) fn can_be_read() {
    SHOWN.follow();
}

static SHOWN: Order = Order::new();

/// Returns what a goroutine that the caller starts inherits; `worker` is the caller's.
#[inline]
pub(crate) fn to_inherit(worker: Option<&Worker>) -> Option<Arc<Inherited>> {
    match worker {
        // None for a timer's callback or a future: the thread's labels would be accidental.
        Some(worker) => worker.running().and_then(|g| g.attributes.inherited()),
        None => with_current(Attributes::inherited).flatten(),
    }
}

/// Adds labels or a scope for the caller and the goroutines that it starts, until this is dropped.
/// The same goroutine or thread drops it (it is `!Send`), in the reverse order of making.
pub(crate) struct Changed {
    before: Option<Arc<Inherited>>,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Changed {
    pub(crate) fn new(change: impl FnOnce(&mut Inherited)) -> Changed {
        let before = with_current(Attributes::inherited).flatten();
        set(&before, change);
        Changed { before, _not_send: std::marker::PhantomData }
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        let before = self.before.take().unwrap_or_default();
        // Inherited locals that were set meanwhile stay.
        let now = with_current(Attributes::inherited).flatten();
        set(&now, |now| {
            now.labels.clone_from(&before.labels);
            now.scopes.clone_from(&before.scopes);
        });
    }
}

/// Applies `change` to a copy of `from`, and sets the result as the caller's inherited part.
fn set(from: &Option<Arc<Inherited>>, change: impl FnOnce(&mut Inherited)) {
    let mut new = from.as_deref().cloned().unwrap_or_default();
    change(&mut new);
    let new = (!new.is_empty()).then(|| Arc::new(new));
    can_be_shown();
    // The old part is dropped outside `with_current`: its locals' destructors are user code.
    drop(with_current(|attributes| attributes.set_inherited(new)));
}

/// A value that each goroutine has for itself, made at its first access. Children do not inherit
/// it.
///
/// It never leaves its goroutine's OS thread, so it need not be `Send`. It is dropped at the
/// goroutine's end. An OS thread has one as well; a future uses that of the worker that polls it,
/// so do not hold on to it across an await. Source: `std::thread_local!`.
///
/// ```
/// use goby::goroutine::Local;
/// use goby::go;
/// use std::cell::Cell;
///
/// static CALLS: Local<Cell<u32>> = Local::new(|| Cell::new(0));
///
/// CALLS.with(|calls| calls.set(7));
/// let in_child = go(|| CALLS.with(|calls| calls.get())).join().unwrap();
/// assert_eq!((in_child, CALLS.with(|calls| calls.get())), (0, 7));
/// ```
pub struct Local<T: 'static> {
    init: fn() -> T,
    is_last: bool,
}

impl<T: 'static> Local<T> {
    /// Makes a local, to be kept in a `static`; `init` makes each goroutine's value.
    pub const fn new(init: fn() -> T) -> Local<T> {
        Local { init, is_last: false }
    }

    /// Makes one that is dropped when a goroutine has no other locals any more, for what their
    /// destructors use.
    #[cfg_attr(not(feature = "tracing"), expect(dead_code))]
    pub(crate) const fn dropped_last(init: fn() -> T) -> Local<T> {
        Local { init, is_last: true }
    }

    /// Runs `f` on this goroutine's value.
    ///
    /// # Panics
    ///
    /// As `f` and the initializer do. If the initializer accesses the local that it makes, it calls
    /// itself without end.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let key = (ptr::from_ref(self).addr(), TypeId::of::<T>());
        let value = match with_current(|attributes| attributes.local(key)).flatten() {
            Some(value) => value.downcast::<T>().expect("the key has the type"),
            None => {
                let value = Rc::new((self.init)());
                with_current(|attributes| attributes.add_local(key, value.clone(), self.is_last));
                value
            }
        };
        f(&value)
    }
}

impl<T: 'static> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local(..)")
    }
}

/// A value that goroutines inherit: a child begins with its parent's value at the time of the
/// start. Later, neither sees the other's changes.
///
/// ```
/// use goby::goroutine::InheritedLocal;
/// use goby::go;
///
/// static REQUEST: InheritedLocal<u64> = InheritedLocal::new();
///
/// go(|| {
///     REQUEST.set(17);
///     assert_eq!(go(|| REQUEST.get()).join().unwrap(), Some(17));
/// }).join().unwrap();
/// assert_eq!(REQUEST.get(), None);
/// ```
pub struct InheritedLocal<T: 'static> {
    _value: std::marker::PhantomData<fn() -> T>,
    /// So that no two statics have the same address.
    _place: u8,
}

impl<T: Clone + Send + Sync + 'static> InheritedLocal<T> {
    /// Makes a local without a value, to be kept in a `static`.
    pub const fn new() -> InheritedLocal<T> {
        InheritedLocal { _value: std::marker::PhantomData, _place: 0 }
    }

    fn key(&'static self) -> Key {
        (ptr::from_ref(self).addr(), TypeId::of::<T>())
    }

    /// Returns this goroutine's value, if there is one.
    pub fn get(&'static self) -> Option<T> {
        let inherited = with_current(Attributes::inherited).flatten()?;
        let (_, value) = inherited.locals.iter().find(|(key, _)| *key == self.key())?;
        value.downcast_ref::<T>().cloned()
    }

    /// Sets it for this goroutine, and for those that it starts from now on.
    pub fn set(&'static self, value: T) {
        self.replace(Some(value));
    }

    /// Removes it, for this goroutine and those that it starts from now on.
    pub fn clear(&'static self) {
        self.replace(None);
    }

    fn replace(&'static self, value: Option<T>) {
        let before = with_current(Attributes::inherited).flatten();
        set(&before, |inherited| {
            inherited.locals.retain(|(key, _)| *key != self.key());
            if let Some(value) = value {
                inherited.locals.push((self.key(), Arc::new(value)));
            }
        });
    }
}

impl<T: Clone + Send + Sync + 'static> Default for InheritedLocal<T> {
    fn default() -> InheritedLocal<T> {
        InheritedLocal::new()
    }
}

impl<T: 'static> fmt::Debug for InheritedLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InheritedLocal(..)")
    }
}

/// Runs `f` with labels added. The caller, and the goroutines that `f` starts, carry them in dumps
/// and reports.
///
/// Source: Go's `pprof.Do`.
///
/// ```
/// use goby::go;
/// use goby::goroutine::{labels, with_labels};
///
/// let seen = with_labels([("request", "17")], || go(labels).join().unwrap());
/// assert_eq!(seen, [("request".to_string(), "17".to_string())]);
/// assert_eq!(labels(), []);
/// ```
pub fn with_labels<K, V, R>(labels: impl IntoIterator<Item = (K, V)>, f: impl FnOnce() -> R) -> R
where
    K: Into<String>,
    V: Into<String>,
{
    // Collected first: the iterator is user code.
    let labels: Vec<(Arc<str>, Arc<str>)> =
        labels.into_iter().map(|(key, value)| (key.into().into(), value.into().into())).collect();
    let _changed =
        Changed::new(|inherited| labels.into_iter().for_each(|(key, value)| inherited.set_label(key, value)));
    f()
}

/// Returns the labels of the calling goroutine or thread, the oldest first.
pub fn labels() -> Vec<(String, String)> {
    let inherited = with_current(Attributes::inherited).flatten();
    let labels = inherited.iter().flat_map(|inherited| &inherited.labels);
    labels.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// Returns the name of the calling goroutine, if it was given one by
/// [`GoBuilder::name`](crate::GoBuilder::name).
pub fn name() -> Option<String> {
    with_current(Attributes::name).flatten().map(|name| name.to_string())
}

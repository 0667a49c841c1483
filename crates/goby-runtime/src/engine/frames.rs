//! Whether a certain function of std is among the calls on a goroutine's stack: the one that runs a
//! panic hook, or the initializer of a thread-local. std does not tell when either runs.
//!
//! Return addresses on the stack are compared with the addresses of the functions. Those come from
//! the symbol table of the program. Strip leaves the table there, unless it is told to remove all
//! symbols (`strip = true`); without the table nothing is found. A thread of its own reads the
//! table, piece by piece, when it is first needed: a goroutine's stack may be too small for that. A
//! caller that needs the answer waits for that thread (about 20 ms if the program has 80 MB); other
//! callers get no answer until the thread has read the table.
//!
//! Tried and rejected, for panic hooks:
//! - *A hook of goby around the program's*: a hook that is set later replaces it. Besides, setting
//!   a hook waits for a hook that is running, and that one may wait for us.
//! - *A panic of our own, to see where its hook is called from*: this needs such a hook, for that
//!   moment.
//! - *The panic count*: std does not show it, and the ways to see it change it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::{stack_trace, tsan};
use crate::engine::goroutine::Goroutine;
use crate::engine::threads::{run_on_own_thread, spawn_own_thread};

/// With this setting a panic unwinds nothing: a goroutine that panics is in the hook.
const ALWAYS_IN_HOOK: bool = cfg!(panic = "abort");
/// How much of a section is in memory at a time. Headers are smaller, and so are names.
const PIECE: u64 = 256 * 1024;

/// A function to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// The caller of the panic hook. It is no longer on the stack while a panic unwinds: a
    /// destructor runs in the frame that owns the value.
    PanicHook,
    /// The caller of the initializer of a `thread_local!`.
    LocalInitializer,
    /// `LocalKey::with`, which optimized builds inline.
    LocalAccess,
}

impl Function {
    /// Returns which of them has this mangled name, in the legacy mangling or the new one.
    fn of_symbol(name: &str) -> Option<Function> {
        // std's own traces end and begin at functions of this name, so the name stays, and the
        // function is never inlined.
        if name.contains("__rust_end_short_backtrace") || name.contains("panic_with_hook") {
            return Some(Function::PanicHook);
        }
        let is_lazy = name.contains("thread_local") && name.contains("lazy");
        if is_lazy && (name.contains("get_or_init_slow") || name.contains("initialize")) {
            return Some(Function::LocalInitializer);
        }
        let is_access = name.contains("LocalKey") && (name.contains("try_with") || name.contains("4with"));
        is_access.then_some(Function::LocalAccess)
    }
}

/// Returns whether `g`, the running goroutine, is inside a call of that function.
#[cold]
pub(crate) fn is_inside(g: &Goroutine, function: Function) -> bool {
    if ALWAYS_IN_HOOK && function == Function::PanicHook {
        return true;
    }
    let _ignore = tsan::ignore();
    let places = if function == Function::PanicHook { places() } else { places_if_read() };
    if places.iter().all(|place| place.function != function) {
        return false;
    }
    let Some(usable) = g.usable_stack() else { return false };
    if !stack_trace::has_room(&usable) {
        return false;
    }
    let mut found = false;
    stack_trace::walk(&usable, |address| {
        // Look up the call, not its return address: after a call that never returns, another
        // function may begin.
        found = find(places, address.wrapping_sub(1)) == Some(function);
        !found
    });
    found
}

/// Returns whether one of these return addresses of a stack is inside that function.
pub(crate) fn contains(stack: &[usize], function: Function) -> bool {
    let _ignore = tsan::ignore();
    let places = places();
    stack.iter().any(|address| find(places, address.wrapping_sub(1)) == Some(function))
}

/// The addresses of one of the functions, or of one instance of it.
struct Place {
    addresses: Range<usize>,
    function: Function,
}

/// Finds the function at `address`. `places` are sorted, and do not overlap.
fn find(places: &[Place], address: usize) -> Option<Function> {
    let after = places.partition_point(|place| place.addresses.start <= address);
    let place = &places[after.checked_sub(1)?];
    place.addresses.contains(&address).then_some(place.function)
}

/// Where the functions lie in this process; empty if there is no symbol table. ThreadSanitizer
/// cannot see the edge inside std's cell, so it ignores the readers.
static PLACES: OnceLock<Vec<Place>> = OnceLock::new();

/// Returns the places; waits until they are known.
fn places() -> &'static [Place] {
    PLACES.get_or_init(|| run_on_own_thread("goby-symbols", sorted_places).unwrap_or_default())
}

/// Reads the symbols, if that was not done before. Do not call it on a goroutine's stack.
pub(crate) fn learn() {
    PLACES.get_or_init(sorted_places);
}

/// Returns whether they have been read.
pub(crate) fn are_known() -> bool {
    PLACES.get().is_some()
}

/// Returns the places, or none until they are known; the first call starts the reading.
fn places_if_read() -> &'static [Place] {
    static IS_ASKED: AtomicBool = AtomicBool::new(false);
    if let Some(places) = PLACES.get() {
        return places;
    }
    // Relaxed: it only matters that one thread starts the reading.
    if !IS_ASKED.swap(true, Ordering::Relaxed) {
        let _ = spawn_own_thread("goby-symbols", learn);
    }
    &[]
}

fn sorted_places() -> Vec<Place> {
    let mut places = read_places().unwrap_or_default();
    places.sort_unstable_by_key(|place| place.addresses.start);
    places
}

/// Reads the symbol table of the program or library that this code lies in, and so std's.
fn read_places() -> Option<Vec<Place>> {
    let (path, base) = own_mapping((read_places as fn() -> _) as usize)?;
    let program = std::fs::read_link("/proc/self/exe").ok();
    // Open the program by the link: that works even if the file has been replaced since.
    let is_program = program.is_some_and(|program| program.to_str() == Some(&*path));
    let file = File::open(if is_program { "/proc/self/exe" } else { &*path }).ok()?;
    let elf = Elf::open(&file)?;
    let symbols = elf.sections.iter().find(|section| section.kind == Elf::SYMBOLS)?;
    let names = functions_by_name(&file, elf.sections.get(symbols.link)?)?;
    let mut places = Vec::new();
    elf.for_each_function(symbols, |name, addresses| {
        if let Ok(found) = names.binary_search_by_key(&name, |(at, _)| *at) {
            places.push(Place { addresses: addresses.start + base..addresses.end + base, function: names[found].1 });
        }
    })?;
    Some(places)
}

/// Returns the offsets of the functions' names in the section of names, in order.
fn functions_by_name(file: &File, names: &Section) -> Option<Vec<(u64, Function)>> {
    /// Every name that counts contains one of these. To look at each name would take long.
    const PARTS: [&[u8]; 4] = [b"__rust_end_short_backtrace", b"panic_with_hook", b"thread_local", b"LocalKey"];
    let mut found = Vec::new();
    let mut at = 0;
    while at < names.size {
        let piece = read(file, names.offset + at, PIECE.min(names.size - at))?;
        // Whole names only; the last one begins the next piece.
        let len = piece.iter().rposition(|&byte| byte == 0)? + 1;
        let piece = &piece[..len];
        for part in PARTS {
            let mut from = 0;
            while let Some(hit) = position(&piece[from..], part) {
                let hit = from + hit;
                let start = piece[..hit].iter().rposition(|&byte| byte == 0).map_or(0, |zero| zero + 1);
                let end = hit + piece[hit..].iter().position(|&byte| byte == 0)?;
                let name = std::str::from_utf8(&piece[start..end]).unwrap_or_default();
                found.extend(Function::of_symbol(name).map(|function| (at + start as u64, function)));
                from = end;
            }
        }
        at += len as u64;
    }
    found.sort_unstable_by_key(|(at, _)| *at);
    found.dedup_by_key(|(at, _)| *at);
    Some(found)
}

/// Returns where `part` begins in `bytes`. libc's search is fast in debug builds, too.
fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    // SAFETY: both are valid for their lengths.
    let hit = unsafe { libc::memmem(bytes.as_ptr().cast(), bytes.len(), part.as_ptr().cast(), part.len()) };
    (!hit.is_null()).then(|| hit.addr() - bytes.as_ptr().addr())
}

/// Returns the path of the file that is mapped at `address`, and where its first byte is mapped.
fn own_mapping(address: usize) -> Option<(String, usize)> {
    let mut maps = String::new();
    File::open("/proc/self/maps").ok()?.read_to_string(&mut maps).ok()?;
    // Lines like "55e0-55f0 r-xp 00001000 08:01 123   /path of the file".
    let mut firsts: Option<(&str, usize)> = None;
    for line in maps.lines() {
        let mut words = line.splitn(6, ' ');
        let (from, to) = words.next()?.split_once('-')?;
        let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        let offset = usize::from_str_radix(words.nth(1)?, 16).ok()?;
        let path = words.nth(2).unwrap_or_default().trim_start();
        if offset == 0 {
            firsts = Some((path, from));
        }
        if (from..to).contains(&address) {
            return firsts.filter(|(first, _)| *first == path).map(|(path, base)| (path.to_owned(), base));
        }
    }
    None
}

/// A 64-bit ELF file of this machine.
struct Elf<'a> {
    file: &'a File,
    sections: Vec<Section>,
    /// The address that the file's first byte is linked for.
    linked_at: u64,
}

struct Section {
    kind: u32,
    offset: u64,
    size: u64,
    link: usize,
}

impl Elf<'_> {
    const SYMBOLS: u32 = 2;
    const LOADED: u32 = 1;
    const FUNCTION: u8 = 2;
    /// The size of a symbol.
    const SYMBOL: u64 = 24;

    fn open(file: &File) -> Option<Elf<'_>> {
        let header = read(file, 0, 64)?;
        if !header.starts_with(b"\x7fELF\x02") {
            return None;
        }
        let (segments_at, sections_at) = (u64_at(&header, 32)?, u64_at(&header, 40)?);
        let (n_segments, n_sections) = (u16_at(&header, 56)?, u16_at(&header, 60)?);
        let segments = read(file, segments_at, u64::from(n_segments) * 56)?;
        let is_first = |s: &&[u8]| u32_at(s, 0) == Some(Self::LOADED) && u64_at(s, 8) == Some(0);
        let linked_at = segments.chunks_exact(56).find(is_first).and_then(|s| u64_at(s, 16))?;
        let sections = read(file, sections_at, u64::from(n_sections) * 64)?;
        let section = |s: &[u8]| {
            let link = u32_at(s, 40)? as usize;
            Some(Section { kind: u32_at(s, 4)?, offset: u64_at(s, 24)?, size: u64_at(s, 32)?, link })
        };
        Some(Elf { file, sections: sections.chunks_exact(64).map(section).collect::<Option<_>>()?, linked_at })
    }

    /// Calls `each` with every function of a symbol table: the offset of its name, and its
    /// addresses relative to the file's first byte.
    fn for_each_function(&self, symbols: &Section, mut each: impl FnMut(u64, Range<usize>)) -> Option<()> {
        let mut at = 0;
        while at + Self::SYMBOL <= symbols.size {
            let piece =
                read(self.file, symbols.offset + at, (PIECE / Self::SYMBOL * Self::SYMBOL).min(symbols.size - at))?;
            for symbol in piece.chunks_exact(Self::SYMBOL as usize) {
                let (address, size) = (u64_at(symbol, 8)?, u64_at(symbol, 16)?);
                if symbol[4] & 0xf == Self::FUNCTION && size != 0 {
                    let from = address.wrapping_sub(self.linked_at) as usize;
                    each(u32_at(symbol, 0)?.into(), from..from.saturating_add(size as usize));
                }
            }
            at += piece.len() as u64;
        }
        Some(())
    }
}

fn read(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    if size > 16 * PIECE {
        return None;
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_in_both_manners_are_known() {
        for name in [
            "_ZN3std3sys9backtrace26__rust_end_short_backtrace17h0123456789abcdefE",
            "_RINvNtNtCs1_3std3sys9backtrace26___rust_end_short_backtraceNCNvNtB6_9panicking11begin_panic0zE",
            "_ZN3std9panicking20rust_panic_with_hook17h0123456789abcdefE",
        ] {
            assert_eq!(Function::of_symbol(name), Some(Function::PanicHook), "{name}");
        }
        let name = "_ZN3std3sys12thread_local6native4lazy20Storage$LT$T$C$D$GT$16get_or_init_slow17h0123E";
        assert_eq!(Function::of_symbol(name), Some(Function::LocalInitializer));
        let name = "_ZN3std6thread5local17LocalKey$LT$T$GT$8try_with17h0123456789abcdefE";
        assert_eq!(Function::of_symbol(name), Some(Function::LocalAccess));
        for name in
            ["main", "_ZN3std3sys9backtrace28__rust_begin_short_backtrace17h01E", "_ZN4core4cell4lazy10initialize"]
        {
            assert_eq!(Function::of_symbol(name), None, "{name}");
        }
    }

    /// This test's own program has its symbols, and they lie where they are.
    #[test]
    fn the_programs_symbols_lie_where_they_are() {
        #[inline(never)]
        extern "C" fn known_by_this_name() {}
        let here = (known_by_this_name as extern "C" fn()) as usize;
        let (path, base) = own_mapping(here).unwrap();
        assert_eq!(path, std::env::current_exe().unwrap().to_str().unwrap());
        let file = File::open(path).unwrap();
        let elf = Elf::open(&file).unwrap();
        let symbols = elf.sections.iter().find(|section| section.kind == Elf::SYMBOLS).unwrap();
        let mut starts = Vec::new();
        elf.for_each_function(symbols, |_, addresses| starts.push(addresses.start + base)).unwrap();
        assert!(starts.contains(&here));
        let places = places();
        assert!(places.iter().any(|place| place.function == Function::PanicHook));
        assert!(places.is_sorted_by_key(|place| place.addresses.start));
        let place = &places[places.len() / 2];
        assert_eq!(find(places, place.addresses.start), Some(place.function));
        assert_eq!(find(places, 0), None);
        assert_eq!(find(places, usize::MAX), None);
    }
}

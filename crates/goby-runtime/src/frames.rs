//! Whether a certain function of std is among the calls on a goroutine's stack: what runs a panic hook, or the initialiser of
//! a thread-local. std says of neither that it is going on.
//!
//! Return addresses on the stack are compared with where the functions lie. That the symbol table of the program tells, which
//! strip leaves there unless it is told to take all symbols (`strip = true`); without it nothing is found. It is read when it is
//! first needed, and by a thread of its own: a goroutine's stack may be too small for that.
//!
//! Tried and rejected, for panic hooks:
//! - *A hook of goby's around the program's*: whoever sets a hook later replaces it, and setting one waits for a hook that is
//!   running, which may wait for us.
//! - *A panic of our own, to see where its hook is called from*: it needs such a hook, for that moment.
//! - *To tell by the panic count*: std does not show it, and what can be seen of it changes it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use crate::goroutine::Goroutine;
use crate::runtime::run_on_own_thread;
use crate::stack_trace;
use crate::worker::Worker;

/// With this setting a panic unwinds nothing: whoever panics is in the hook.
const ALWAYS_IN_HOOK: bool = cfg!(panic = "abort");
/// What walking needs of a stack, as for a dump.
const ROOM: usize = 8 * 1024;
/// A section of a program that is larger than this is none.
const MAX_SECTION: u64 = 1 << 30;

/// A function to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// What calls the panic hook. Unwinding has it no more: a destructor runs in the frame that owns the value.
    PanicHook,
    /// What runs the initialiser of a `thread_local!`.
    LocalInitializer,
}

impl Function {
    /// Which of them has this mangled name, be it in the old manner or the new one.
    fn of_symbol(name: &str) -> Option<Function> {
        // std's own traces end and begin at functions of this name, so it stays, and is never inlined.
        if name.contains("__rust_end_short_backtrace") || name.contains("panic_with_hook") {
            return Some(Function::PanicHook);
        }
        let is_lazy = name.contains("thread_local") && name.contains("lazy");
        (is_lazy && (name.contains("get_or_init_slow") || name.contains("initialize")))
            .then_some(Function::LocalInitializer)
    }
}

/// Whether `g`, which runs, here, is inside a call of that function.
#[cold]
pub(crate) fn is_inside(g: &Goroutine, function: Function) -> bool {
    if ALWAYS_IN_HOOK && function == Function::PanicHook {
        return true;
    }
    let places = places();
    if places.iter().all(|place| place.function != function) {
        return false;
    }
    let (Some(worker), Some(slot)) = (Worker::current(), g.slot.get()) else { return false };
    let usable = worker.shared.pool.usable(slot);
    if usable.start + ROOM > (&raw const usable).addr() {
        return false;
    }
    let mut found = false;
    stack_trace::walk(&usable, |address| {
        // The call, not where it returns to: what calls and never returns may be followed by another function.
        found = find(places, address.wrapping_sub(1)) == Some(function);
        !found
    });
    found
}

/// Where one of the functions lies, or one instance of it.
struct Place {
    addresses: Range<usize>,
    function: Function,
}

/// Sorted, and apart from each other.
fn find(places: &[Place], address: usize) -> Option<Function> {
    let after = places.partition_point(|place| place.addresses.start <= address);
    let place = &places[after.checked_sub(1)?];
    place.addresses.contains(&address).then_some(place.function)
}

/// Where the functions lie in this process; nothing where the symbol table is gone.
fn places() -> &'static [Place] {
    // ThreadSanitizer is told nothing of it: the callers have it ignore them.
    static PLACES: OnceLock<Vec<Place>> = OnceLock::new();
    PLACES.get_or_init(|| {
        let mut places = run_on_own_thread("goby-symbols", read_places).flatten().unwrap_or_default();
        places.sort_unstable_by_key(|place| place.addresses.start);
        places
    })
}

/// Reads the symbol table of the program or library that this code lies in, and so std's.
fn read_places() -> Option<Vec<Place>> {
    let (path, base) = own_mapping((read_places as fn() -> _) as usize)?;
    let program = std::fs::read_link("/proc/self/exe").ok();
    // By the link also where the file has been replaced since.
    let is_program = program.is_some_and(|program| program.to_str() == Some(&*path));
    let file = File::open(if is_program { "/proc/self/exe" } else { &*path }).ok()?;
    let mut places = Vec::new();
    Elf::open(&file)?.for_each_function(|name, addresses| {
        if let Some(function) = Function::of_symbol(name) {
            places.push(Place { addresses: addresses.start + base..addresses.end + base, function });
        }
    })?;
    Some(places)
}

/// The file that is mapped at `address`, and where its first byte is mapped.
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

    /// Calls `each` with the name of every function of the symbol table, and where it lies from the file's first byte on.
    fn for_each_function(&self, mut each: impl FnMut(&str, Range<usize>)) -> Option<()> {
        let symbols = self.sections.iter().find(|section| section.kind == Self::SYMBOLS)?;
        let names = self.read(self.sections.get(symbols.link)?)?;
        for symbol in self.read(symbols)?.chunks_exact(24) {
            let (address, size) = (u64_at(symbol, 8)?, u64_at(symbol, 16)?);
            if symbol[4] & 0xf != Self::FUNCTION || size == 0 {
                continue;
            }
            let name = names.get(u32_at(symbol, 0)? as usize..)?;
            let name = &name[..name.iter().position(|&byte| byte == 0)?];
            let from = address.wrapping_sub(self.linked_at) as usize;
            each(std::str::from_utf8(name).unwrap_or_default(), from..from.saturating_add(size as usize));
        }
        Some(())
    }

    fn read(&self, section: &Section) -> Option<Vec<u8>> {
        read(self.file, section.offset, section.size)
    }
}

fn read(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    if size > MAX_SECTION {
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
        let mut found = None;
        let look = |name: &str, addresses: Range<usize>| {
            if name.contains("known_by_this_name") {
                found = Some(addresses);
            }
        };
        Elf::open(&file).unwrap().for_each_function(look).unwrap();
        assert_eq!(found.unwrap().start + base, here);
        let places = places();
        assert!(places.iter().any(|place| place.function == Function::PanicHook));
        assert!(places.is_sorted_by_key(|place| place.addresses.start));
        let place = &places[places.len() / 2];
        assert_eq!(find(places, place.addresses.start), Some(place.function));
        assert_eq!(find(places, 0), None);
        assert_eq!(find(places, usize::MAX), None);
    }
}

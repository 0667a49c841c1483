//! Why a goroutine is parked.

use std::fmt;

/// Why a goroutine is parked. Dumps show the text. Do not use one reason for two things: add one,
/// before `Yield`, which stays the last. A table in the guide's page on production lists them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
#[allow(missing_docs)] // The texts below say it.
pub enum WaitReason {
    None,
    ChanReceive,
    ChanSend,
    ChanReceiveNil,
    ChanSendNil,
    Select,
    SelectNoCases,
    Sleep,
    IoWait,
    PipeRead,
    PipeWrite,
    StdinRead,
    FileRead,
    FileWrite,
    FileSystem,
    LookUp,
    ProcessStart,
    ProcessWait,
    MutexLock,
    RwLockRead,
    RwLockWrite,
    CondWait,
    WaitGroupWait,
    SemaphoreAcquire,
    BarrierWait,
    LatchWait,
    PoolGet,
    OnceWait,
    Join,
    ScopeWait,
    BlockOn,
    Blocking,
    ContextDone,
    Tokio,
    Inspect,
    Yield,
}

/// All reasons, each at the index that is its number.
const REASONS: [WaitReason; 36] = [
    WaitReason::None,
    WaitReason::ChanReceive,
    WaitReason::ChanSend,
    WaitReason::ChanReceiveNil,
    WaitReason::ChanSendNil,
    WaitReason::Select,
    WaitReason::SelectNoCases,
    WaitReason::Sleep,
    WaitReason::IoWait,
    WaitReason::PipeRead,
    WaitReason::PipeWrite,
    WaitReason::StdinRead,
    WaitReason::FileRead,
    WaitReason::FileWrite,
    WaitReason::FileSystem,
    WaitReason::LookUp,
    WaitReason::ProcessStart,
    WaitReason::ProcessWait,
    WaitReason::MutexLock,
    WaitReason::RwLockRead,
    WaitReason::RwLockWrite,
    WaitReason::CondWait,
    WaitReason::WaitGroupWait,
    WaitReason::SemaphoreAcquire,
    WaitReason::BarrierWait,
    WaitReason::LatchWait,
    WaitReason::PoolGet,
    WaitReason::OnceWait,
    WaitReason::Join,
    WaitReason::ScopeWait,
    WaitReason::BlockOn,
    WaitReason::Blocking,
    WaitReason::ContextDone,
    WaitReason::Tokio,
    WaitReason::Inspect,
    WaitReason::Yield,
];

// No reason is missing, and none is out of place.
const _: () = {
    let mut i = 0;
    while i < REASONS.len() {
        assert!(REASONS[i] as usize == i);
        i += 1;
    }
    assert!(REASONS.len() == WaitReason::Yield as usize + 1);
};

impl WaitReason {
    pub(crate) fn from_number(number: u8) -> WaitReason {
        REASONS.get(usize::from(number)).copied().unwrap_or(WaitReason::None)
    }

    /// Returns the words that dumps use: Go's, if Go has them.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitReason::None => "running",
            WaitReason::ChanReceive => "chan receive",
            WaitReason::ChanSend => "chan send",
            WaitReason::ChanReceiveNil => "chan receive (nil chan)",
            WaitReason::ChanSendNil => "chan send (nil chan)",
            WaitReason::Select => "select",
            WaitReason::SelectNoCases => "select (no cases)",
            WaitReason::Sleep => "sleep",
            WaitReason::IoWait => "IO wait",
            WaitReason::PipeRead => "pipe read",
            WaitReason::PipeWrite => "pipe write",
            WaitReason::StdinRead => "stdin read",
            WaitReason::FileRead => "file read",
            WaitReason::FileWrite => "file write",
            WaitReason::FileSystem => "file system",
            WaitReason::LookUp => "name look-up",
            WaitReason::ProcessStart => "process start",
            WaitReason::ProcessWait => "process wait",
            WaitReason::MutexLock => "sync.Mutex.Lock",
            WaitReason::RwLockRead => "sync.RWMutex.RLock",
            WaitReason::RwLockWrite => "sync.RWMutex.Lock",
            WaitReason::CondWait => "sync.Cond.Wait",
            WaitReason::WaitGroupWait => "sync.WaitGroup.Wait",
            WaitReason::SemaphoreAcquire => "semacquire",
            WaitReason::BarrierWait => "barrier wait",
            WaitReason::LatchWait => "latch wait",
            WaitReason::PoolGet => "pool get",
            WaitReason::OnceWait => "sync.Once.Do",
            WaitReason::Join => "join",
            WaitReason::ScopeWait => "scope wait",
            WaitReason::BlockOn => "block_on",
            WaitReason::Blocking => "blocking call",
            WaitReason::ContextDone => "context done",
            WaitReason::Tokio => "tokio",
            WaitReason::Inspect => "running",
            WaitReason::Yield => "runnable",
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

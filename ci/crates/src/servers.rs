//! Real servers for the tests, each on a free port of the loopback address, with a folder of its
//! own. They end with the test.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to begin, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user and group `nobody`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// A folder that is removed with this.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("goby-crates-{}-{n}", process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server in a process of its own.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    child: Child,
    /// The command that ends it in order, if it needs one.
    stop: Option<Command>,
    _folder: Folder,
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.stop {
            Some(stop) => drop(stop.status()),
            None => drop(self.child.kill()),
        }
        let _ = self.child.wait();
    }
}

fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Starts a server and waits until it accepts.
fn start(folder: Folder, addr: SocketAddr, command: &mut Command, stop: Option<Command>) -> Server {
    let log = fs::File::create(folder.path().join("log")).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} (see ci/setup.sh): {error}"));
    let mut server = Server { addr, child, stop, _folder: folder };
    let begun = Instant::now();
    while let Err(error) = TcpStream::connect(addr) {
        let has_ended = server.child.try_wait().unwrap().is_some();
        if has_ended || begun.elapsed() > PATIENCE {
            let log = fs::read_to_string(server._folder.path().join("log")).unwrap_or_default();
            panic!("{command:?} does not accept ({error}):\n{log}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    server
}

/// Finds a program, as root does, whose PATH may lack folders.
fn program(name: &str, folders: &[&str]) -> PathBuf {
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| name.into())
}

/// nginx, which answers `/N` with N.
pub(crate) fn nginx() -> Server {
    let (folder, addr) = (Folder::new(), free_addr());
    let config = format!(
        "worker_processes 1; daemon off; pid nginx.pid; error_log stderr;
         events {{ worker_connections 4096; }}
         http {{
             access_log off;
             server {{
                 listen {addr} backlog=2048;
                 location ~ ^/([0-9]+)$ {{ default_type text/plain; return 200 $1; }}
             }}
         }}"
    );
    fs::write(folder.path().join("nginx.conf"), config).unwrap();
    let mut command = Command::new(program("nginx", &["/usr/sbin"]));
    command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
    // As root its master process leaves the sockets to a child, which a kill of the master would
    // leave behind.
    let mut stop = Command::new(command.get_program());
    stop.args(command.get_args()).args(["-s", "stop"]).stderr(Stdio::null());
    start(folder, addr, &mut command, Some(stop))
}

pub(crate) fn redis() -> Server {
    let (folder, addr) = (Folder::new(), free_addr());
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &addr.port().to_string(), "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(folder.path());
    start(folder, addr, &mut command, None)
}

pub(crate) fn nats() -> Server {
    let (folder, addr) = (Folder::new(), free_addr());
    let mut command = Command::new(program("nats-server", &["/usr/sbin"]));
    command.args(["-a", "127.0.0.1", "-p", &addr.port().to_string()]);
    start(folder, addr, &mut command, None)
}

/// PostgreSQL, with the user and the database `postgres`, without a password.
pub(crate) fn postgres() -> Server {
    let (folder, addr) = (Folder::new(), free_addr());
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = installed.map(|version| version.unwrap().path()).max().unwrap_or_else(|| "/usr/lib/postgresql".into());
    let data = folder.path().join("data");
    let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder.path()).unwrap()) == 0;
    if is_root {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let command = |name: &str| {
        let mut command = Command::new(newest.join("bin").join(name));
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir(folder.path()).arg("-D").arg(&data);
        command
    };
    let mut initdb = command("initdb");
    initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8"]);
    let output = initdb.output().unwrap_or_else(|error| panic!("{initdb:?} (see ci/setup.sh): {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut postgres = command("postgres");
    postgres.args(["-h", "127.0.0.1", "-p", &addr.port().to_string(), "-k", ".", "-c", "fsync=off"]);
    let mut stop = command("pg_ctl");
    stop.args(["stop", "--silent", "--mode=immediate", "--wait"]);
    let mut is_ready = Command::new(newest.join("bin/pg_isready"));
    is_ready.args(["--quiet", "-h", "127.0.0.1", "-p", &addr.port().to_string()]);
    let server = start(folder, addr, &mut postgres, Some(stop));
    // It accepts before it is ready, to say that it is starting.
    let begun = Instant::now();
    while !is_ready.status().unwrap().success() {
        assert!(begun.elapsed() < PATIENCE, "{is_ready:?}");
        thread::sleep(Duration::from_millis(10));
    }
    server
}

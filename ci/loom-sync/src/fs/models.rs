//! The helper thread that opens a FIFO, and the caller that leaves.

use loom::sync::Arc;
use loom::sync::mpsc::channel;
use loom::thread;

use super::leaving::Leaving;

/// The writer of the FIFO goes on if and only if the caller takes the file.
#[test]
fn whoever_leaves_leaves_nothing_opened() {
    loom::model(|| {
        let leaving = Arc::new(Leaving::new());
        let (opened, opens) = channel();
        let helper = thread::spawn({
            let leaving = leaving.clone();
            move || {
                let begins = leaving.begin();
                if begins {
                    opened.send(()).unwrap();
                }
                begins
            }
        });
        let takes = !leaving.leave();
        if takes {
            opens.recv().unwrap();
        }
        assert_eq!(helper.join().unwrap(), takes);
    });
}

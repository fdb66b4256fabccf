//! Ending what an earlier tidegate started for a service that is not run any more.
//!
//! With the service its settings are gone, so the signal and the grace are the usual ones.
//! Blocks until nothing is left.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::group::Group;
use super::procfs;
use super::store::{Saved, Store};

/// From the signal to the kill.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether they are gone.
const LOOK: Duration = Duration::from_millis(50);

/// Ends the instances that are written down in a service's folder; says how many lived.
pub(super) fn end(folder: &Path) -> io::Result<usize> {
    if !folder.join("instances.json").exists() {
        return Ok(0);
    }
    let store = Store::open(folder.to_owned())?;
    let saved = store.load()?;
    let all = procfs::all();
    let mut groups: Vec<Group> = Vec::new();
    // After a reboot the numbers belong to others.
    for record in saved.instances.iter().filter(|_| saved.boot == procfs::boot_id()) {
        let id = record.id.as_str().into();
        groups.extend(match record.pid {
            0 => Group::find(&id, &all),
            pid => Some(Group { id, pid, start: record.start }),
        });
    }
    groups.retain(|group| !group.members(&all).is_empty());
    let found = groups.len();
    let begun = Instant::now();
    let mut signal = Some(Signal::SIGTERM);
    while !groups.is_empty() {
        let all = procfs::all();
        if signal.is_none() && begun.elapsed() >= GRACE {
            signal = Some(Signal::SIGKILL);
        }
        for group in &groups {
            if let Some(signal) = signal {
                group.signal(&group.members(&all), false, signal);
            }
        }
        // What is killed is killed again: it may have forked meanwhile.
        signal = None;
        std::thread::sleep(LOOK);
        let all = procfs::all();
        groups.retain(|group| !group.members(&all).is_empty());
    }
    store.save(&Saved { instances: Vec::new(), ..saved })?;
    Ok(found)
}

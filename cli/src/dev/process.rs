//! Node processes: spawn, signal, watch.

use super::state::{NodeState, node_dir};
use crate::exit::{Failure, OrFail};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const STOP_WAIT: Duration = Duration::from_secs(15);
const PORT_WAIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Starts a node on its configuration file; its output goes to `log` beside it. Returns the pid.
pub fn spawn(dir: &Path, node: &NodeState) -> Result<u32, Failure> {
    let home = node_dir(dir, node.id);
    let log_path = home.join("log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.or_fail(format!("open {}", log_path.display()))?;
    let program = std::env::current_exe().or_fail("find the floss binary")?;
    let child = Command::new(program)
        .args(["server", "run", "--config"])
        .arg(home.join("floss.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().or_fail("share the log file")?)
        .stderr(log)
        .process_group(0) // Ctrl-C in the terminal must not reach a detached node
        .spawn()
        .or_fail(format!("start node {}", node.id))?;
    Ok(child.id())
}

/// `up`, `paused` or `down`. A pid that now belongs to another program is `down`.
pub fn status(node: &NodeState) -> &'static str {
    let Ok(command) = std::fs::read(format!("/proc/{}/cmdline", node.pid)) else { return "down" };
    let config = format!("node-{}/floss.toml", node.id);
    // Empty for a moment while the program is being started, and for one that has ended.
    if !command.is_empty() && !String::from_utf8_lossy(&command).contains(&config) {
        return "down";
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid)).unwrap_or_default();
    match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
        Some('T' | 't') => "paused",
        Some('Z' | 'X') | None => "down",
        Some(_) => "up",
    }
}

pub fn kill(node: &NodeState) -> Result<(), Failure> {
    send(node, Signal::KILL)
}

pub fn pause(node: &NodeState) -> Result<(), Failure> {
    send(node, Signal::STOP)
}

pub fn resume(node: &NodeState) -> Result<(), Failure> {
    send(node, Signal::CONT)
}

fn send(node: &NodeState, signal: Signal) -> Result<(), Failure> {
    if status(node) == "down" {
        return Err(Failure::not_found(format!("node {} does not run", node.id)).next(format!("floss dev restart {}", node.id)));
    }
    let pid = Pid::from_raw(node.pid as i32).expect("a running process has a pid above zero");
    kill_process(pid, signal).map_err(|error| Failure::failed(format!("signal node {}", node.id)).why(error))
}

/// SIGTERM to all at once, then waits; SIGKILL for who is still there.
pub async fn stop_all(nodes: &[NodeState]) -> Result<(), Failure> {
    for node in nodes.iter().filter(|node| status(node) != "down") {
        send(node, Signal::TERM)?;
        if status(node) == "paused" {
            send(node, Signal::CONT)?;
        }
    }
    let mut waited = Duration::ZERO;
    while nodes.iter().any(|node| status(node) != "down") && waited < STOP_WAIT {
        tokio::time::sleep(POLL).await;
        waited += POLL;
    }
    for node in nodes.iter().filter(|node| status(node) != "down") {
        send(node, Signal::KILL)?;
    }
    Ok(())
}

/// Waits until the node accepts client connections.
pub async fn wait_port(node: &NodeState) -> Result<(), Failure> {
    let mut waited = Duration::ZERO;
    while tokio::net::TcpStream::connect(&node.address).await.is_err() {
        if waited >= PORT_WAIT || status(node) == "down" {
            let log = node.data_dir.with_file_name("log");
            return Err(Failure::failed(format!("node {} does not come up", node.id))
                .why(last_line(&log))
                .next(format!("look at {}", log.display())));
        }
        tokio::time::sleep(POLL).await;
        waited += POLL;
    }
    Ok(())
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed nothing").to_string()
}

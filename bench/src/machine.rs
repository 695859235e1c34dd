//! What stands beside every figure: the machine, the build, the commit.

use serde::Serialize;
use std::path::Path;

/// The machine and the build.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu: Option<String>,
    pub(crate) kernel: Option<String>,
    /// Processes that wanted to run in the last minute, before we began.
    pub(crate) load: Option<f64>,
    /// What `git describe` says of the checkout that the executable was built in.
    pub(crate) commit: Option<String>,
    pub(crate) is_release_build: bool,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            memory_bytes: read("/proc/meminfo")
                .as_deref()
                .and_then(|text| kib_field(text, "MemTotal")),
            cpu: read("/proc/cpuinfo")
                .as_deref()
                .and_then(|text| field(text, "model name").map(str::to_owned)),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            load: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            commit: std::env::current_exe().ok().and_then(|exe| describe(&exe)),
            is_release_build: !cfg!(debug_assertions),
        }
    }

    /// Returns the lines of a report's head.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let gib = |bytes: u64| format!("{:.0} GiB", bytes as f64 / f64::from(1 << 30));
        let mut parts = vec![format!("{} cores", self.cores)];
        parts.extend(self.memory_bytes.map(gib));
        parts.extend(self.cpu.clone());
        parts.extend(self.kernel.as_ref().map(|kernel| format!("Linux {kernel}")));
        parts.extend(self.load.map(|load| format!("load {load:.1} before")));
        let build = if self.is_release_build {
            "release build"
        } else {
            "debug build: the figures say little"
        };
        let commit = self.commit.as_deref().unwrap_or("unknown");
        vec![("machine", parts.join(", ")), ("commit", format!("{commit}, {build}"))]
    }

    /// Returns whether others use the machine so much that the figures are theirs as well.
    pub(crate) fn is_busy(&self) -> bool {
        self.load.is_some_and(|load| load > self.cores as f64 / 2.0)
    }
}

/// Returns the value of a `name : value` line.
fn field<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// Returns the value of a `name: 12 kB` line in bytes (proc(5)).
pub(crate) fn kib_field(text: &str, name: &str) -> Option<u64> {
    let kib: u64 = field(text, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Asks git, but only where the executable lies in the folder that cargo built it in.
fn describe(exe: &Path) -> Option<String> {
    let folder = exe.parent()?;
    let target = folder.parent()?;
    if target.file_name()? != "target" {
        return None;
    }
    let git = std::process::Command::new("git")
        .arg("-C")
        .arg(target.parent()?)
        .args(["describe", "--always", "--dirty", "--tags"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(git.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_of_proc() {
        let text = "Name:\tconvoy\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(kib_field(text, "VmRSS"), Some(10_485_760));
        assert_eq!(kib_field(text, "VmSwap"), None);
        assert_eq!(kib_field(text, "Name"), None);
    }

    #[test]
    fn an_installed_executable_has_no_commit() {
        assert_eq!(describe(Path::new("/usr/local/bin/convoy")), None);
    }
}

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Of the calling thread.
pub(crate) fn thread() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Of this process.
pub(crate) fn process() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Of all cores since the machine started.
pub(crate) fn machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = stat.lines().next().unwrap_or_default().split_whitespace();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in the first two.
    let busy = all
        .skip(1)
        .take(8)
        .enumerate()
        .filter_map(|(column, spent)| {
            let is_idle = matches!(column, 3 | 4);
            spent.parse::<u64>().ok().filter(|_| !is_idle)
        });
    from_clock_ticks(busy.sum())
}

/// User and system time in a process's `/proc/PID/stat`.
pub(crate) fn from_stat(stat: &str) -> Duration {
    // The name, in parentheses, may contain anything; utime and stime are fields 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = fields.split_whitespace().skip(11).take(2);
    from_clock_ticks(times.filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// Times in /proc are hundredths of a second (USER_HZ).
fn from_clock_ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(10))
}

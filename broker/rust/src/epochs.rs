//! The leader epochs of a partition and the offsets at which they began (Kafka's LeaderEpochFileCache and its file).
use std::fs;
use std::io;
use std::path::Path;

pub const FILE: &str = "leader-epoch-checkpoint";

/// (epoch, first offset) pairs, both rising.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    entries: Vec<(i32, i64)>,
}

impl Epochs {
    /// A missing or unreadable file is an empty cache: the batches carry their epochs too.
    pub fn load(directory: &Path) -> Epochs {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let mut epochs = Epochs::default();
        for line in text.lines().skip(2) {
            let mut fields = line.split(' ');
            if let (Some(Ok(epoch)), Some(Ok(start))) = (fields.next().map(str::parse), fields.next().map(str::parse)) {
                epochs.assign(epoch, start);
            }
        }
        epochs
    }

    /// Written whole and renamed, not flushed: if a power cut empties it, recovery reads the batches instead.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        let temporary = directory.join("leader-epoch-checkpoint.tmp");
        // Crash here: the old file, and a `.tmp` that recovery removes. The epochs that the old one lacks are in batches
        // behind the checkpoint, which the scan reads, or wrote no batch.
        fs::write(&temporary, text)?;
        fs::rename(temporary, directory.join(FILE))
    }

    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// An epoch begins at an offset. Epochs that began there or later, and thus wrote nothing, are forgotten.
    pub fn assign(&mut self, epoch: i32, start: i64) {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        while self.entries.last().is_some_and(|(_, began)| *began >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
    }

    /// The tail from `end` on was cut off.
    pub fn truncate(&mut self, end: i64) {
        self.entries.retain(|(_, start)| *start < end);
    }

    /// Everything before `start` is gone: its epoch begins there now.
    pub fn forget_before(&mut self, start: i64) {
        let keep = self.entries.partition_point(|(_, began)| *began <= start);
        if keep > 1 {
            self.entries.drain(..keep - 1);
        }
        if keep > 0 {
            self.entries[0].1 = self.entries[0].1.max(start);
        }
    }

    pub fn at(&self, offset: i64) -> i32 {
        match self.entries.partition_point(|(_, start)| *start <= offset) {
            0 => -1,
            after => self.entries[after - 1].0,
        }
    }

    /// The largest epoch at most `asked` and its end offset; (-1, -1) for one that is not known yet.
    pub fn end_offset(&self, asked: i32, log_end: i64) -> (i32, i64) {
        if asked < 0 || self.latest().is_none_or(|latest| asked > latest) {
            return (-1, -1);
        }
        match self.entries.partition_point(|(epoch, _)| *epoch <= asked) {
            // Before all that is known: that epoch ended where the first known one began.
            0 => (asked, self.entries[0].1),
            after if after == self.entries.len() => (self.entries[after - 1].0, log_end),
            after => (self.entries[after - 1].0, self.entries[after].1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let mut epochs = Epochs::default();
        epochs.assign(1, 0);
        epochs.assign(3, 10);
        epochs.assign(4, 10);
        epochs.assign(6, 25);
        assert_eq!(epochs.end_offset(0, 30), (0, 0));
        assert_eq!(epochs.end_offset(1, 30), (1, 10));
        assert_eq!(epochs.end_offset(3, 30), (1, 10));
        assert_eq!(epochs.end_offset(5, 30), (4, 25));
        assert_eq!(epochs.end_offset(6, 30), (6, 30));
        assert_eq!(epochs.end_offset(7, 30), (-1, -1));
        assert_eq!(epochs.end_offset(-1, 30), (-1, -1));
        assert_eq!((epochs.at(9), epochs.at(10), epochs.at(99)), (1, 4, 6));
    }

    #[test]
    fn epochs_follow_the_log_start_and_a_cut() {
        let mut epochs = Epochs::default();
        epochs.assign(0, 0);
        epochs.assign(1, 10);
        epochs.assign(2, 20);
        epochs.forget_before(15);
        assert_eq!(epochs.entries, [(1, 15), (2, 20)]);
        epochs.truncate(20);
        assert_eq!(epochs.entries, [(1, 15)]);
    }
}

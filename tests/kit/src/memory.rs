//! What this process has in its memory, also where that was freed: whether secrets are overwritten.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

/// What is looked for at a time, in bytes: of a copy that was freed, the allocator overwrites the beginning.
const PIECE: usize = size_of::<u128>();
/// The smallest part of memory that a process gives back, in bytes.
const PAGE: u64 = 4096;
/// Memory that is read at a time, in bytes.
const CHUNK: usize = 1024 * 1024;

/// What is read is a copy, too, which another one would find.
static READS: Mutex<()> = Mutex::new(());

/// A secret that is in memory only where a test puts it: it is kept with all bits inverted.
#[derive(Debug)]
pub struct Planted {
    inverted: Vec<u8>,
    pieces: HashSet<u128>,
    /// Where memory and its map are read to. Made at the beginning: what is allocated later may take the place of a copy.
    room: Mutex<(Vec<u8>, Vec<u8>)>,
    /// What keeps the free places apart that copies can be in.
    _between: Vec<Vec<u8>>,
}

impl Planted {
    /// A secret of letters, of some length in bytes.
    #[must_use]
    pub fn new(length: usize) -> Self {
        let hasher = RandomState::new();
        let letter = |index| b'a' + (hasher.hash_one(index) % 26) as u8;
        let inverted: Vec<u8> = (0..length).map(|index| !letter(index)).collect();
        let pieces = inverted.chunks_exact(PIECE).map(number).collect();
        let room = Mutex::new((vec![0; CHUNK], Vec::with_capacity(CHUNK)));
        // What grows has to move each time.
        let places = (3..16).map(|power| 1 << power).map(|size| (vec![1; size], vec![1; 64]));
        let (free, between): (Vec<_>, Vec<_>) = places.collect::<Vec<_>>().into_iter().unzip();
        drop(free);
        Self { inverted, pieces, room, _between: between }
    }

    /// The secret.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.inverted.len());
        text.extend(self.inverted.iter().map(|byte| char::from(!byte)));
        text
    }

    /// How many pieces of the secret are in memory. Of each copy, there is one for 16 bytes.
    ///
    /// # Panics
    ///
    /// If this process is not allowed to read its own memory.
    #[must_use]
    pub fn pieces(&self) -> usize {
        let _alone = READS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let (chunk, map) = &mut *room;
        let own = chunk.as_ptr() as u64..chunk.as_ptr() as u64 + CHUNK as u64;
        let memory = File::open("/proc/self/mem").expect("the memory of this process");
        map.clear();
        File::open("/proc/self/maps").and_then(|mut file| file.read_to_end(map)).expect("a map of it");
        let mut found = 0;
        for (from, to) in map.split(|byte| *byte == b'\n').filter_map(writable) {
            let mut at = from;
            while at + PIECE as u64 <= to {
                let wanted = usize::try_from(to - at).map_or(CHUNK, |rest| rest.min(CHUNK));
                let Ok(read @ PIECE..) = memory.read_at(chunk.get_mut(..wanted).unwrap_or_default(), at)
                else {
                    // Another thread has given it back meanwhile.
                    at += PAGE;
                    continue;
                };
                let inverted = chunk.get_mut(..read).unwrap_or_default();
                // Nothing of it is copied as it is.
                inverted.iter_mut().for_each(|byte| *byte = !*byte);
                let windows = inverted.windows(PIECE).zip(at..);
                let is_letter = |byte: &u8| (!byte).is_ascii_lowercase();
                let is_piece =
                    |window: &[u8]| window.iter().all(is_letter) && self.pieces.contains(&number(window));
                found += windows.filter(|(window, at)| !own.contains(at) && is_piece(window)).count();
                // A piece may lie across the end.
                at += (read - (PIECE - 1)) as u64;
            }
        }
        chunk.fill(0);
        std::hint::black_box(chunk);
        found
    }
}

fn number(piece: &[u8]) -> u128 {
    u128::from_ne_bytes(piece.try_into().expect("a piece"))
}

/// A part of memory, from a line of its map, if it can be written to and no file backs it.
fn writable(line: &[u8]) -> Option<(u64, u64)> {
    let mut fields = std::str::from_utf8(line).ok()?.split_whitespace();
    let (range, rights, file) = (fields.next()?, fields.next()?, fields.nth(3));
    let is_backed = file.is_some_and(|file| !file.starts_with('['));
    let (from, to) = range.split_once('-').filter(|_| rights.starts_with("rw") && !is_backed)?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::Planted;

    #[test]
    fn what_is_freed_and_not_overwritten_is_found() {
        let planted = Planted::new(4096);
        assert_eq!(planted.pieces(), 0);
        let text = planted.text();
        assert_eq!(planted.pieces(), 256);
        drop(text);
        assert!(planted.pieces() > 200);
    }
}

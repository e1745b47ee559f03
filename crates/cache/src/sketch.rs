//! How often keys were asked for and missed, in little memory.
//!
//! A count-min sketch with four-bit counters that are halved now and then: Einziger, Friedman and Manes,
//! "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 13(4), 2017.

/// Approximate counts up to 15.
pub(crate) struct Sketch {
    /// Two counters a byte.
    counters: Box<[u8]>,
    added: usize,
    /// How often it was halved.
    pub(crate) period: u32,
}

impl Sketch {
    /// `bytes` is rounded up to a power of two.
    pub(crate) fn new(bytes: usize) -> Self {
        let counters = vec![0; bytes.next_power_of_two().max(64)].into();
        Self { counters, added: 0, period: 0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.counters.len()
    }

    /// Four places, by double hashing (Kirsch and Mitzenmacher, "Less Hashing, Same Performance", 2006).
    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u32)> + use<> {
        let mask = self.counters.len() * 2 - 1;
        let step = (hash >> 32 | 1) as usize;
        (0..4_usize).map(move |row| {
            let place = (hash as usize).wrapping_add(row.wrapping_mul(step)) & mask;
            (place / 2, (place % 2 * 4) as u32)
        })
    }

    pub(crate) fn add(&mut self, hash: u64) {
        let least = self.count(hash);
        for (byte, shift) in self.places(hash) {
            // The others are too high already, by other keys. Estan and Varghese, "New Directions in Traffic
            // Measurement and Accounting", SIGCOMM 2002: conservative update.
            if least < 15 && u32::from(self.counters[byte] >> shift & 15) == least {
                self.counters[byte] += 1 << shift;
            }
        }
        self.added += 1;
        // Two counters a byte, sixteen counters an entry, ten misses an entry: the sample of the paper.
        if self.added >= self.counters.len() / 8 * 10 {
            self.counters.iter_mut().for_each(|byte| *byte = *byte >> 1 & 0x77);
            self.added /= 2;
            self.period += 1;
        }
    }

    pub(crate) fn count(&self, hash: u64) -> u32 {
        let counts = self.places(hash).map(|(byte, shift)| self.counters[byte] >> shift & 15);
        u32::from(counts.min().unwrap_or(0))
    }
}

//! What decides in a world: dice that fall the same way for the same seed, or a script that tries every way once.

/// The dice of one world.
#[derive(Clone, Debug)]
pub struct Dice(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// splitmix64.
    Seeded(u64),
    /// The first choices are given, all others are 0; what was chosen is noted, out of how many.
    Scripted {
        given: Vec<usize>,
        trail: Vec<(usize, usize)>,
    },
}

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(Kind::Seeded(seed))
    }

    pub const fn scripted(given: Vec<usize>) -> Self {
        Self(Kind::Scripted {
            given,
            trail: Vec::new(),
        })
    }

    pub fn roll(&mut self) -> u64 {
        let Kind::Seeded(state) = &mut self.0 else {
            return 0;
        };
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to and without `bound`; 0 when `bound` is.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll().checked_rem(bound).unwrap_or_default()
    }

    /// True in so many of a thousand cases; never in a script.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        matches!(self.0, Kind::Seeded(_)) && self.below(1000) < per_mille
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    /// One of `count` ways to go on: the choices that a script goes through.
    pub fn choose(&mut self, count: usize) -> usize {
        match &mut self.0 {
            Kind::Seeded(_) => usize::try_from(self.below(count as u64)).unwrap(),
            Kind::Scripted { given, trail } => {
                let chosen = given.get(trail.len()).copied().unwrap_or_default();
                assert!(chosen < count, "the world is not the same one as before");
                trail.push((chosen, count));
                chosen
            }
        }
    }

    /// The script that comes after this one, unless it was the last.
    pub fn next_script(self) -> Option<Vec<usize>> {
        let Kind::Scripted { mut trail, .. } = self.0 else {
            return None;
        };
        while let Some((chosen, count)) = trail.pop() {
            if chosen + 1 < count {
                let mut next: Vec<_> = trail.into_iter().map(|(chosen, _)| chosen).collect();
                next.push(chosen + 1);
                return Some(next);
            }
        }
        None
    }
}

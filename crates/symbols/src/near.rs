//! Names that a person may have meant.

/// How many suggestions are worth reading.
const MOST: usize = 5;

/// Longer names are compared by their first characters only.
const LONGEST: usize = 64;

/// The names nearest to `wanted`, the nearest first: few edits, upper and lower case the same, or `wanted` as a part of them.
pub fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let wanted = folded(wanted);
    // Beyond a third of the letters it is another word.
    let limit = wanted.len() / 3 + 1;
    let mut best: Vec<(usize, usize, &str)> = Vec::new();
    for name in names {
        let worst = if best.len() < MOST { limit } else { best.last().map_or(limit, |worst| worst.0) };
        let Some(distance) = distance_within(&wanted, name, worst) else { continue };
        let candidate = (distance, name.len(), name);
        if best.contains(&candidate) {
            continue;
        }
        let place = best.partition_point(|other| *other < candidate);
        best.insert(place, candidate);
        best.truncate(MOST);
    }
    best.into_iter().map(|(_, _, name)| name.to_owned()).collect()
}

fn folded(name: &str) -> Vec<char> {
    name.chars().take(LONGEST).flat_map(char::to_lowercase).collect()
}

fn distance_within(wanted: &[char], name: &str, limit: usize) -> Option<usize> {
    let name_len = name.len();
    // Each missing letter is an edit; most names fall here without further work (a letter has at most 4 bytes).
    if wanted.len() > name_len + limit || name_len > (wanted.len() + limit) * 4 {
        return None;
    }
    let distance = edits(wanted, &folded(name));
    (distance <= limit).then_some(distance)
}

/// Levenshtein's distance, one row at a time.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, from) in a.iter().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let substituted = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = substituted.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        let names = ["malloc", "calloc", "mallopt", "free", "MALLOC", "xyzzy"];
        assert_eq!(nearest("maloc", names.into_iter()), ["MALLOC", "malloc", "calloc"]);
    }

    #[test]
    fn nothing_is_better_than_noise() {
        assert!(nearest("quux", ["printf", "scanf", "main"].into_iter()).is_empty());
    }

    #[test]
    fn edits_count_insertions_deletions_and_substitutions() {
        let count = |a: &str, b: &str| edits(&folded(a), &folded(b));
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("same", "same"), 0);
    }
}

//! The dimensions of a tensor, without memory of their own in the usual case.

use std::fmt;
use std::ops::Deref;

/// Dimensions, outermost first, as PyTorch shows them; a slice to its users.
///
/// A model has as many of these as tensors, nearly all with one or two
/// dimensions, so those lie in the value itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Dims);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Dims {
    None,
    One([u64; 1]),
    Two([u64; 2]),
    /// Always more than two, so that equal shapes are equal values.
    More(Box<[u64]>),
}

impl Shape {
    /// The dimensions.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        match &self.0 {
            Dims::None => &[],
            Dims::One(dims) => dims,
            Dims::Two(dims) => dims,
            Dims::More(dims) => dims,
        }
    }

    /// How many of them lie outside the value.
    pub(super) fn outside(&self) -> usize {
        match &self.0 {
            Dims::More(dims) => dims.len(),
            _ => 0,
        }
    }
}

impl From<&[u64]> for Shape {
    fn from(dims: &[u64]) -> Self {
        Self(match *dims {
            [] => Dims::None,
            [only] => Dims::One([only]),
            [outer, inner] => Dims::Two([outer, inner]),
            _ => Dims::More(dims.into()),
        })
    }
}

impl From<Vec<u64>> for Shape {
    fn from(dims: Vec<u64>) -> Self {
        dims.as_slice().into()
    }
}

impl Deref for Shape {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        self.as_slice()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_dimensions_comes_back() {
        for count in 0..6 {
            let dims: Vec<u64> = (1..=count).collect();
            let shape = Shape::from(dims.clone());
            assert_eq!(shape.as_slice(), dims);
            assert_eq!(format!("{shape:?}"), format!("{dims:?}"));
            assert_eq!(shape, Shape::from(dims.as_slice()));
            let outside = if count > 2 { dims.len() } else { 0 };
            assert_eq!(shape.outside(), outside);
        }
        assert_ne!(Shape::from(vec![1, 2]), Shape::from(vec![2, 1]));
    }
}

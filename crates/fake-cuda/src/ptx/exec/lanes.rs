//! Values of the 32 lanes of a warp, and word arithmetic over them.
//! Plain loops over arrays: the compiler vectorises them.

/// One value per lane.
pub(crate) type Lanes<T> = [T; 32];

/// A warp has 32 lanes on every NVIDIA GPU.
pub(crate) const WARP: u32 = 32;

pub(crate) fn map1<A: Copy, R: Copy + Default>(a: &Lanes<A>, f: impl Fn(A) -> R) -> Lanes<R> {
    let mut out = [R::default(); 32];
    for (o, &a) in out.iter_mut().zip(a) {
        *o = f(a);
    }
    out
}

pub(crate) fn map2<A: Copy, B: Copy, R: Copy + Default>(
    a: &Lanes<A>,
    b: &Lanes<B>,
    f: impl Fn(A, B) -> R,
) -> Lanes<R> {
    let mut out = [R::default(); 32];
    for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *o = f(a, b);
    }
    out
}

pub(crate) fn map3<A: Copy, B: Copy, C: Copy, R: Copy + Default>(
    a: &Lanes<A>,
    b: &Lanes<B>,
    c: &Lanes<C>,
    f: impl Fn(A, B, C) -> R,
) -> Lanes<R> {
    let mut out = [R::default(); 32];
    for (((o, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *o = f(a, b, c);
    }
    out
}

/// Copies the lanes of `mask` from `value` into `place`.
pub(crate) fn blend<T: Copy>(place: &mut Lanes<T>, value: &Lanes<T>, mask: u32) {
    if mask == u32::MAX {
        *place = *value;
        return;
    }
    // No branch and no shift by the lane, so that this is vectorised.
    for ((p, v), bit) in place.iter_mut().zip(value).zip(&BITS) {
        *p = if mask & bit == 0 { *p } else { *v };
    }
}

/// The mask of each lane alone.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const BITS: Lanes<u32> = {
    let mut bits = [1; 32];
    let mut lane = 0;
    while lane < 32 {
        bits[lane] = 1 << lane;
        lane += 1;
    }
    bits
};

/// Lane numbers of the set bits of `mask`, ascending.
pub(crate) fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |lane| mask >> lane & 1 == 1)
}

/// Bit `l` of the result is `test(a[l], b[l])`.
pub(crate) fn mask2<T: Copy>(a: &Lanes<T>, b: &Lanes<T>, test: impl Fn(T, T) -> bool) -> u32 {
    let mut mask = 0;
    for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
        mask |= u32::from(test(a, b)) << lane;
    }
    mask
}

/// An unsigned register word, with the signed readings PTX needs.
pub(crate) trait Word: Copy + Default + Eq + Ord {
    const BITS: u32;
    fn from_u64(value: u64) -> Self;
    fn to_u64(self) -> u64;
    fn signed(self) -> i64;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn mul_hi(self, b: Self, signed: bool) -> Self;
    fn div(self, b: Self, signed: bool) -> Self;
    fn rem(self, b: Self, signed: bool) -> Self;
    fn less(self, b: Self, signed: bool) -> bool;
    fn and(self, b: Self) -> Self;
    fn or(self, b: Self) -> Self;
    fn xor(self, b: Self) -> Self;
    fn not(self) -> Self;
    fn neg(self) -> Self;
    fn brev(self) -> Self;
    fn shl(self, by: u32) -> Self;
    fn shr(self, by: u32, signed: bool) -> Self;
    fn popc(self) -> u32;
    fn clz(self) -> u32;
    /// Sum with carry in; the carry out.
    fn add_carry(self, b: Self, carry: bool) -> (Self, bool);
    /// Difference with borrow in; the borrow out.
    fn sub_borrow(self, b: Self, borrow: bool) -> (Self, bool);
}

macro_rules! word {
    ($u:ty, $s:ty, $wide_u:ty, $wide_s:ty) => {
        impl Word for $u {
            const BITS: u32 = <$u>::BITS;
            fn from_u64(value: u64) -> Self {
                value as $u
            }
            fn to_u64(self) -> u64 {
                u64::from(self)
            }
            fn signed(self) -> i64 {
                i64::from(self as $s)
            }
            fn add(self, b: Self) -> Self {
                self.wrapping_add(b)
            }
            fn sub(self, b: Self) -> Self {
                self.wrapping_sub(b)
            }
            fn mul(self, b: Self) -> Self {
                self.wrapping_mul(b)
            }
            fn mul_hi(self, b: Self, signed: bool) -> Self {
                if signed {
                    let wide = <$wide_s>::from(self as $s).wrapping_mul(<$wide_s>::from(b as $s));
                    (wide >> <$u>::BITS) as $u
                } else {
                    let wide = <$wide_u>::from(self).wrapping_mul(<$wide_u>::from(b));
                    (wide >> <$u>::BITS) as $u
                }
            }
            /// Division by zero gives all ones; PTX leaves it to the machine.
            fn div(self, b: Self, signed: bool) -> Self {
                match (b, signed) {
                    (0, _) => Self::MAX,
                    (_, true) => (self as $s).wrapping_div(b as $s) as $u,
                    (_, false) => self.checked_div(b).unwrap_or(Self::MAX),
                }
            }
            /// The remainder by zero is the dividend; PTX leaves it to the machine.
            fn rem(self, b: Self, signed: bool) -> Self {
                match (b, signed) {
                    (0, _) => self,
                    (_, true) => (self as $s).wrapping_rem(b as $s) as $u,
                    (_, false) => self.checked_rem(b).unwrap_or(self),
                }
            }
            fn less(self, b: Self, signed: bool) -> bool {
                if signed {
                    (self as $s) < (b as $s)
                } else {
                    self < b
                }
            }
            fn and(self, b: Self) -> Self {
                self & b
            }
            fn or(self, b: Self) -> Self {
                self | b
            }
            fn xor(self, b: Self) -> Self {
                self ^ b
            }
            fn not(self) -> Self {
                !self
            }
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            fn brev(self) -> Self {
                self.reverse_bits()
            }
            fn shl(self, by: u32) -> Self {
                self.checked_shl(by).unwrap_or(0)
            }
            fn shr(self, by: u32, signed: bool) -> Self {
                let last = <$u>::BITS.saturating_sub(1);
                if signed {
                    (self as $s).wrapping_shr(by.min(last)) as $u
                } else {
                    self.checked_shr(by).unwrap_or(0)
                }
            }
            fn popc(self) -> u32 {
                self.count_ones()
            }
            fn clz(self) -> u32 {
                self.leading_zeros()
            }
            fn add_carry(self, b: Self, carry: bool) -> (Self, bool) {
                let (sum, first) = self.overflowing_add(b);
                let (sum, second) = sum.overflowing_add(<$u>::from(carry));
                (sum, first | second)
            }
            fn sub_borrow(self, b: Self, borrow: bool) -> (Self, bool) {
                let (left, first) = self.overflowing_sub(b);
                let (left, second) = left.overflowing_sub(<$u>::from(borrow));
                (left, first | second)
            }
        }
    };
}

word!(u16, i16, u32, i32);
word!(u32, i32, u64, i64);
word!(u64, i64, u128, i128);

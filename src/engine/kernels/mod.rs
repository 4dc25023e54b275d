//! Dense arithmetic on the CPU: packed matrix products and what stands between them, once a set of instructions.
//!
//! A kernel is a type that implements [`Kernel`]: the matrix product in the instructions of one processor family, which [`tile`] builds from a
//! dozen primitives where they are [`Vectors`]; and [`rows`], compiled once more with the family's vectors. Which one runs
//! is decided when a model is loaded ([`KernelName::best`]); all of them can be forced, so that each is tested on one
//! machine. This room must not know models, layers or heads.
//!
//! | name | numbers multiplied | vectors |
//! |---|---|---|
//! | `amx-bf16` | bfloat16, sums in f32 | tiles of 16 × 32 numbers, `tdpbf16ps` ([`amx`]); between products 512 bits |
//! | `amx-int8` | as `avx512-vnni`, of the same rows to the last bit in the products with weights; all else as `amx-bf16` | tiles of 16 × 64 numbers, `tdpbsud` |
//! | `avx512-bf16` | bfloat16, sums in f32 | 512 bits, `vdpbf16ps` |
//! | `avx512-vnni` | int8 where one is a weight ([`int8`]) but of queries, keys and values; all else as `avx512-bf16` or `avx512`, the faster here | 512 bits, `vpdpbusd` |
//! | `avx512` | f32 | 512 bits |
//! | `avx2` | f32 | 256 bits, FMA |
//! | `neon` | f32 | 128 bits |
//! | `portable` | f32 | as the compiler finds them |

use std::fmt;
use std::str::FromStr;
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

use half::bf16;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod buffer;
mod ceiling;
#[cfg(target_arch = "x86_64")]
pub(super) mod int8;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
pub(super) mod rows;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use amx::AmxBf16;
pub(super) use buffer::Aligned;
use buffer::Plain;
use ceiling::Ceiling;
#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon;
pub(super) use portable::Portable;
use tile::{Operands, Tile};
pub(super) use tile::{Packed, Panels, Product, multiply, place};
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Avx512Bf16};

/// How many times as fast as in bfloat16 products must be in f32 to be made in it: numbers of half the size are read and kept in half the time
/// and room. Measured are .5 (Zen 4) and 1.8 (Emerald Rapids), so that no noise decides.
#[cfg(target_arch = "x86_64")]
const F32_ADVANTAGE_MIN: f64 = 1.3;

/// The widest panel of any kernel, in columns.
pub(super) const PANEL_MAX: usize = 64;

/// A number that matrices hold.
pub(super) trait Element: Plain + Default {
    /// How many neighbours along the depth one instruction multiplies and adds up.
    const GROUP: usize;
    fn from_f32(number: f32) -> Self;
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    const GROUP: usize = 1;

    #[inline(always)]
    fn from_f32(number: f32) -> Self {
        number
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    const GROUP: usize = 2;

    /// To nearest, ties to even; NaN stays NaN. Free of branches, so that the compiler can vectorise it.
    #[inline(always)]
    fn from_f32(number: f32) -> Self {
        const QUIET: u32 = 0x0040_0000;
        let bits = number.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        let bits = if number.is_nan() { bits | QUIET } else { rounded };
        Self::from_bits((bits >> 16) as u16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// Products, and what stands between them, in one set of instructions.
///
/// # Safety
/// `with_features` must run its argument with the instructions that the other functions use, and the type must be used only where
/// [`KernelName::is_available`] says that the processor has them.
pub(super) unsafe trait Kernel: Copy + Send + Sync + 'static {
    const NAME: KernelName;
    type Element: Element;
    /// Columns of a panel.
    const PANEL: usize;
    /// Rows that share what is loaded of a panel.
    const ROWS: usize;
    /// Whether a multiplication and an addition are one instruction.
    const FUSED: bool;

    /// Runs `work` compiled for these instructions, everything inlined into it included.
    fn with_features<R>(work: impl FnOnce() -> R) -> R;

    /// What [`multiply`] computes, once it has been looked at.
    unsafe fn product(operands: &Operands<Self::Element>);

    /// The greatest of the scores, NaN where one is.
    #[inline(always)]
    unsafe fn greatest(scores: &[f32]) -> f32 {
        rows::greatest(scores)
    }

    /// `2^(score − whole)` of every score, as many as there are `powers`, of which none is NaN or above `whole`, an integer; 0 where that is below 2⁻¹²⁶. Writes them and
    /// returns their sum. Another `whole` gives the same digits with another exponent.
    #[inline(always)]
    unsafe fn powers_of_two(scores: &[f32], whole: f32, powers: &mut [Self::Element]) -> f32 {
        rows::powers_of_two::<Self>(scores, whole, powers)
    }
}

/// The primitives of a kernel whose sums stand in vector registers.
///
/// # Safety
/// As for [`Kernel`].
pub(super) unsafe trait Vectors: Kernel {
    /// A register of `LANES` sums.
    type Sums: Copy;
    /// A register of `LANES` groups of elements.
    type Groups: Copy;
    const LANES: usize;
    /// Registers side by side in a tile: a panel has `LANES × COLUMNS` columns.
    const COLUMNS: usize;

    unsafe fn zero() -> Self::Sums;
    unsafe fn load_sums(from: *const f32) -> Self::Sums;
    unsafe fn store_sums(to: *mut f32, sums: Self::Sums);
    unsafe fn load(from: *const Self::Element) -> Self::Groups;
    /// One group in every lane.
    unsafe fn broadcast(from: *const Self::Element) -> Self::Groups;
    /// `sums + a · b`, the products of a lane's group added up.
    unsafe fn dot(sums: Self::Sums, a: Self::Groups, b: Self::Groups) -> Self::Sums;
    /// [`tile::run`] of `rows` ≤ `ROWS` rows.
    unsafe fn tile(rows: usize, tile: &Tile<Self::Element>);
}

/// A kernel by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelName {
    AmxBf16,
    /// In eight bits as by `Avx512Vnni`, and as that only taken where it is named; all else as by `AmxBf16`.
    AmxInt8,
    Avx512Bf16,
    /// Weights but those of queries, keys and values, and what they multiply, in eight bits, all else as by `Avx512Bf16` or `Avx512`, the faster
    /// of them here: less exact, so it is only taken where it is named.
    Avx512Vnni,
    Avx512,
    Avx2,
    Neon,
    Portable,
    /// candle's own operations: what other devices and weights kept quantised run on.
    Candle,
}

impl KernelName {
    /// All of them. Those in floating point stand in the order in which they are taken where none is named, but that `Avx512` goes before
    /// `Avx512Bf16` where it is clearly faster.
    pub const ALL: [Self; 9] = [
        Self::AmxBf16,
        Self::AmxInt8,
        Self::Avx512Bf16,
        Self::Avx512Vnni,
        Self::Avx512,
        Self::Avx2,
        Self::Neon,
        Self::Portable,
        Self::Candle,
    ];

    /// Whether this build has it and this processor can run it. Of AMX, Linux is asked for permission, once for the whole process: after that it
    /// refuses signal stacks that have no room for tiles (`sigaltstack` of less than some 11 KiB), and where a thread has one, no AMX is taken.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::AmxBf16 => Self::Avx512Bf16.is_available() && amx::is_available(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::AmxInt8 => {
                Self::AmxBf16.is_available() && Self::Avx512Vnni.is_available() && amx::int8_is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => Self::Avx512.is_available() && is_x86_feature_detected!("avx512vnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Self::Portable | Self::Candle => true,
            #[allow(unreachable_patterns, reason = "which of the others are left depends on the processor family")]
            _ => false,
        }
    }

    /// The fastest that this processor can run in floating point.
    pub fn best() -> Self {
        Self::best_that_fits(|_| true)
    }

    /// The same of those whose weights fit; where none do, of those whose weights take least.
    pub(super) fn best_that_fits(fits: impl Fn(Self) -> bool) -> Self {
        let floating = || Self::ALL.into_iter().filter(|name| name.dtype() != "int8" && name.is_available());
        match floating().find(|name| fits(*name)) {
            Some(Self::Avx512Bf16) if fits(Self::Avx512) => Self::wide(),
            Some(name) => name,
            None => floating().min_by_key(|name| name.weight_bytes()).unwrap_or(Self::Portable),
        }
    }

    /// Of those with vectors of 512 bits in floating point the faster, as measured once in a process, in two milliseconds: `vdpbf16ps` makes
    /// twice the products of `vfmadd`, and some processors (Emerald Rapids) begin one where they begin four of those, others (Zen 4) as many.
    fn wide() -> Self {
        #[cfg(target_arch = "x86_64")]
        let wide = {
            static WIDE: OnceLock<KernelName> = OnceLock::new();
            *WIDE.get_or_init(|| match Self::Avx512Bf16.is_available() {
                true if ceiling::advantage::<Avx512, Avx512Bf16>() < F32_ADVANTAGE_MIN => Self::Avx512Bf16,
                _ => Self::Avx512,
            })
        };
        #[cfg(not(target_arch = "x86_64"))]
        let wide = Self::Avx512;
        wide
    }

    /// What computes all that this one has not in eight bits.
    pub(super) fn floating(self) -> Self {
        match self {
            Self::AmxInt8 => Self::AmxBf16,
            Self::Avx512Vnni => Self::wide(),
            other => other,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::AmxBf16 => "amx-bf16",
            Self::AmxInt8 => "amx-int8",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
            Self::Candle => "candle",
        }
    }

    /// Operations a second of this kernel's products with weights on all threads, operands in the caches next to the core: the
    /// ceiling of everything that is built from them. `None` for candle, and for what this processor cannot run.
    pub fn ceiling(self) -> Option<f64> {
        self.measured(Ceiling::Product)
    }

    /// Operations a second of the instruction that this kernel multiplies weights by, on all threads, operands in registers: the
    /// ceiling of any product that is made with it. `None` as for [`KernelName::ceiling`], and for a kernel that has no such instruction.
    pub fn instruction_ceiling(self) -> Option<f64> {
        self.measured(Ceiling::Instruction)
    }

    fn measured(self, ceiling: Ceiling) -> Option<f64> {
        match self {
            _ if !self.is_available() => None,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::AmxBf16 => Some(ceiling.measure_amx()),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::AmxInt8 => Some(ceiling.measure_int8(int8::By::Amx)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => ceiling.measure::<Avx512Bf16>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => Some(ceiling.measure_int8(int8::By::Vnni)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => ceiling.measure::<Avx512>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => ceiling.measure::<Avx2>(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => ceiling.measure::<Neon>(),
            Self::Portable => ceiling.measure::<Portable>(),
            _ => None,
        }
    }

    /// What weights are multiplied in: `bf16`, `int8` or `f32`.
    pub fn dtype(self) -> &'static str {
        match self {
            Self::AmxBf16 | Self::Avx512Bf16 => "bf16",
            Self::AmxInt8 | Self::Avx512Vnni => "int8",
            _ => "f32",
        }
    }

    /// Bytes of a number of keys and values.
    pub(super) fn number_bytes(self) -> usize {
        self.floating().weight_bytes()
    }

    /// Bytes of a weight, for what a model takes in memory: where most take one, the others and the embedding take two or four.
    pub(super) fn weight_bytes(self) -> usize {
        if self.dtype() == "f32" { 4 } else { 2 }
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KernelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|name| name.name() == text);
        let Some(name) = known else {
            let names = Self::ALL.map(Self::name).join(", ");
            return Err(format!("`{text}` is no kernel; hint: one of {names}"));
        };
        if name.is_available() {
            return Ok(name);
        }
        let here: Vec<_> = Self::ALL.into_iter().filter(|name| name.is_available()).map(Self::name).collect();
        Err(format!("this processor or build has no `{text}`; hint: it has {}", here.join(", ")))
    }
}

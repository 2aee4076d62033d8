//! Every number that a verdict, a group or an alarm turns on, with its unit and its reason.
//!
//! A change is measured on the corpus before and after (`cargo xtask verdict`); docs/design/verdict.md has the figures. What
//! only bounds memory or time, what a published method prescribes, and how sure a report says to be stand where they are used.

use std::ops::RangeInclusive;

// How sure a rise has to be. Chances are those of such a rise in a series that does not grow, from 0 to 1.

/// The fewest intervals after which anything is decided: five rises in a row happen by chance once in 32 times, and six values
/// are in rising order once in 720.
pub const MIN_INTERVALS: usize = 5;

/// The chance below which the rise of a whole run counts.
pub const CHANCE: f64 = 0.006;

/// The chance below which the rise of a part of the run counts: it is one of several that are tried, so it has to show more.
pub const CHANCE_OF_A_PART: f64 = 0.002;

/// The chance below which a later half counts as rising that is much slower than what came before it. The level after a fill is
/// looked at after every interval, and its noise must not once pass for a leak.
pub const CHANCE_AFTER_A_FILL: f64 = 0.0002;

/// The chance below which a rise of the number of blocks counts where the bytes were unclear: it is a second try.
pub const CHANCE_OF_BLOCKS: f64 = 0.0005;

/// The chance above which a rise is put down to which blocks a sample happened to draw.
pub const CHANCE_OF_THE_DRAW: f64 = 0.01;

/// The chance below which a rise stands against any number of other stacks, given that its old blocks are known to stay.
pub const CHANCE_THAT_LASTING_BLOCKS_CONFIRM: f64 = 0.01;

/// The share that may be chance among the stacks that are called growing, from 0 to 1: of thousands some rise by chance.
pub const FALSE_DISCOVERIES: f64 = 0.05;

/// The chance below which the later half of a growing run agrees by itself, so that the verdict is as sure as it can be.
pub const CHANCE_THAT_AGREES: f64 = 0.1;

/// The chance below which a run that does not count as rising is undecided and no plateau: it may be rising.
pub const CHANCE_THAT_LEANS: f64 = 0.1;

/// The chance below which a later half makes its run undecided: it is a second try, so it has to show more than the run.
pub const CHANCE_THAT_THE_LATER_HALF_LEANS: f64 = 0.05;

/// The chance above which a stretch ends its test at once: most stacks of a healthy process do, before any slope is computed.
pub const CHANCE_OF_NO_RISE: f64 = 0.2;

/// The fewest samples of a stretch that is tested: ranks of three values say nothing.
pub const LEAST_SAMPLES_OF_A_TEST: usize = 4;

/// The fewest samples of a part of the run that is judged alone.
pub const LEAST_SAMPLES_OF_A_PART: usize = 6;

/// How far the least value must rise from the earlier half to the later one, as a share of what the slope makes of the run's
/// time: a rise that is undone has the floor that it began with.
pub const FLOOR_OF_A_RISE: f64 = 0.1;

/// A fall that is at least this share of the range is of another kind than the rises (a sawtooth rises nearly always), so
/// that how often a series rises says nothing.
pub const FALL_OF_ANOTHER_KIND: f64 = 0.5;

/// A fall of at least this share of the range that was not made up for is the edge of a tooth, and what follows the next one.
pub const FALL_OF_A_TOOTH: f64 = 0.5;

/// The percentile of what was held before a later part that this part must exceed to be a rise: a few peaks are let pass.
pub const PEAKS_PERCENT: usize = 95;

// Single steps, which are no trend.

/// A step explains a series when it leaves less than this share of the squared error that a straight line leaves. A straight
/// rise never looks like that, and a step of several deviations of the noise does by far.
pub const ERROR_OF_A_STEP: f64 = 0.7;

/// A slope is computed without the steps of a series when these are more than this share of its rise.
pub const STEPS_OF_A_RISE: f64 = 0.2;

/// The fewest samples that must be left when a stack's appearance is taken off its series.
pub const LEAST_SAMPLES_AFTER_AN_APPEARANCE: usize = 6;

/// A stack appears at full size, which is no growth, when its first sample is more than this share of the median of all.
pub const SIZE_OF_AN_APPEARANCE: f64 = 0.5;

/// The fewest points on each side of a bend, from which on a late leak's rate is computed.
pub const LEAST_SIDE_OF_A_BEND: usize = 4;

/// The share of what one straight line leaves unexplained that a bend has to explain. Noise that adds up (each block of a
/// random size leaks) bends, too, but seldom so sharply.
pub const BEND: f64 = 0.85;

// Whether a rise goes on.

/// The samples of a run below which it is short, so that [`LATER_SHARE_OF_A_SHORT_RUN`] holds in place of [`LATER_SHARE`].
pub const SHORT_RUN: usize = 10;

/// The least slope of the later half, as a share of the slope of what rises: a rise that is over, or nearly, has less.
pub const LATER_SHARE: f64 = 0.3;

/// The least slope of the later half of a short run, as a share of the slope of what rises: a few samples vary more.
pub const LATER_SHARE_OF_A_SHORT_RUN: f64 = 0.5;

/// The fewest samples by which a slower later half shows that it rises steadily, after a warm-up, by itself.
pub const LEAST_SAMPLES_AFTER_A_FILL: usize = 12;

/// Standard deviations of the interval of the slope of the last third, when that is the tail that may have stopped. More than
/// for the half, as several tails are tried and a shorter one has to be surer.
pub const Z_OF_A_THIRD: f64 = 2.1;

/// Standard deviations of the interval of the slope of the last quarter, when that is the tail that may have stopped.
pub const Z_OF_A_QUARTER: f64 = 2.4;

/// The fewest samples of a tail that may have stopped to rise.
pub const LEAST_SAMPLES_OF_A_TAIL: usize = 5;

/// A tail is slower when the upper end of its slope is below this share of the slope before it.
pub const PACE_OF_A_TAIL: f64 = 0.45;

/// The chance of its rise above which a slower tail does not rise at all.
pub const CHANCE_OF_A_STOP: f64 = 0.05;

/// The fewest samples of each third of a run that is looked at for slowing down.
pub const LEAST_SAMPLES_OF_A_THIRD: usize = 4;

/// A run slows down when the upper end of its last third's slope is below this share of the middle third's slope, as a cache's
/// is that fills.
pub const PACE_AFTER_THE_MIDDLE: f64 = 0.7;

/// A run slows down when the upper end of its last third's slope is below this share of the first third's slope, as well.
pub const PACE_AFTER_THE_FIRST: f64 = 0.5;

/// The fewest samples of an earlier stand-still after which the newest one is no end of the rise.
pub const LEAST_SAMPLES_OF_A_STILL_STAND: usize = 4;

/// An earlier stretch stood still when its slope was below this share of the whole run's.
pub const PACE_OF_A_STILL_STAND: f64 = 0.3;

/// The samples of a pause. A hiccup of one or two intervals is none.
pub const PAUSE: usize = 6;

/// The fewest earlier stretches of [`PAUSE`] samples that the newest one is compared with.
pub const LEAST_WITNESSES_OF_A_PAUSE: usize = 3;

/// One of this many earlier stretches may be slower than the one that the newest is compared with: a rise that comes in stairs
/// has slow ones.
pub const LOWEST_WITNESSES_OF_A_PAUSE: usize = 10;

/// The newest stretch is a pause when its slope is below this share of nearly all earlier ones'.
pub const PACE_OF_A_PAUSE: f64 = 0.2;

// Staircases: series that rise rarely and never fall.

/// The fewest rises that make a staircase.
pub const LEAST_STAIRS: usize = 5;

/// The fewest rises that may become a staircase, so that the stack is undecided and no plateau.
pub const FEW_STAIRS: usize = 3;

/// The fewest rises of which the last came just now that leave a stack undecided.
pub const STAIRS_JUST_NOW: usize = 2;

/// A staircase goes on until this many of its longest gaps have passed since its last rise.
pub const MOST_GAPS_SINCE_A_STAIR: usize = 2;

/// Rises come ever more rarely when the later gaps are longer than the earlier ones by this factor. A high-water mark does so:
/// each new maximum takes longer to come.
pub const RARER: f64 = 2.5;

/// A rise that is more than this share of all rises together makes one step and no staircase.
pub const ONE_STEP: f64 = 0.6;

// Series that go up and down, or down.

/// The fewest samples in which teeth are looked for.
pub const LEAST_SAMPLES_OF_TEETH: usize = 7;

/// The range, as a share of the largest value, up to which a series is level and has no teeth.
pub const RANGE_OF_TEETH: f64 = 0.2;

/// The share of the range that a way up or down has to cross to count.
pub const TOOTH: f64 = 0.5;

/// The fewest ways up, and the fewest ways down, of a sawtooth.
pub const LEAST_TEETH: usize = 2;

/// The chance above which ups and downs are noise: neighbours no more alike than others, rises as many as falls.
pub const CHANCE_OF_NOISE: f64 = 0.02;

/// The least fall of a stack that shrinks, as a share of the most that it held.
pub const LEAST_FALL: f64 = 0.1;

// What the survival of blocks says. Shares are of blocks or of bytes, from 0 to 1.

/// The samples that must be exceeded before survival alone decides.
pub const SAMPLES_BEFORE_SURVIVAL_DECIDES: usize = 8;

/// The fewest old blocks of which a share is taken: deaths among fewer say nothing.
pub const LEAST_AT_RISK: u64 = 8;

/// The fewest blocks born long ago of which something is said although none of them could be watched.
pub const MANY_BORN: u64 = 3 * LEAST_AT_RISK;

/// The fewest blocks that would live if a rise were a leak, and are missed when they do not.
pub const LEAST_MISSED: u64 = 2;

/// The fewest blocks born long ago of which none lives, so that what is held has come lately.
pub const LEAST_BORN: u64 = 4;

/// The least share of the old blocks that is freed between two looks where a load rises and nothing leaks.
pub const DEATHS_OF_A_TURNOVER: f64 = 0.25;

/// The least share of the oldest blocks that is freed between two looks where a load rises and nothing leaks.
pub const DEATHS_OF_THE_OLDEST: f64 = 0.2;

/// Old blocks are gone when they hold less than this share of what rose while they were born.
pub const LEFT_OF_A_RISE: f64 = 0.25;

/// The least share of old blocks that is freed between two looks where blocks are replaced, not added.
pub const DEATHS_OF_A_REPLACEMENT: f64 = 0.1;

/// The largest share of the oldest blocks that is freed between two looks where blocks last.
pub const DEATHS_OF_WHAT_LASTS: f64 = 0.02;

/// The fewest cohorts by which survival alone shows a leak.
pub const LEAST_COHORTS: usize = 5;

/// The least percentage of older cohorts that hold something where nearly every one leaves blocks behind.
pub const HOLDING_COHORTS_PERCENT: usize = 80;

/// What the later older cohorts may hold for each hour, in units of what the earlier ones do, where all leave blocks behind:
/// far from even is a start that lives on, or a load that came late.
pub const EVENNESS: RangeInclusive<f64> = 0.4..=8.0;

/// A leak goes on while nothing new was born for at most one of this many parts of the time that was looked at.
pub const BARREN_PART: u64 = 8;

/// The least upper end of a slope, as a share of the rate at which blocks are left behind: a series that rises less by far
/// contradicts them.
pub const SLOPE_OF_WHAT_IS_LEFT: f64 = 0.5;

/// A stack holds the same few blocks all along when the most are at most this many times the fewest.
pub const SAME_NUMBER_OF_BLOCKS: f64 = 1.5;

/// Blocks became larger when the later ones are this many times the earlier ones: a buffer that is allocated anew to grow.
pub const LARGER_BLOCKS: f64 = 4.0 / 3.0;

// Which groups are told.

/// The share of a group's rate from which on what was found within it explains its growth.
pub const EXPLAINED: f64 = 0.8;

/// The most parts that are an explanation: of more the group that has them all is.
pub const MOST_PARTS: usize = 8;

/// The share of its growth found within it from which on a group is not told that is wider than an allocating function:
/// "something in this process" helps nobody who has most of it by name.
pub const EXPLAINED_WIDELY: f64 = 0.5;

// Whole processes and cgroups.

/// The fewest samples of a rate: with fewer, chance alone makes one rise throughout too often (1 of 720 orders of six values
/// rises throughout).
pub const LEAST_SAMPLES_OF_A_RATE: usize = 6;

/// The newer half goes on to rise when its slope is at least one of this many parts of the whole rate.
pub const NEWER_PART_OF_A_RATE: f64 = 3.0;

/// The least growth of a process, in bytes, of which a share is taken: below, it is the kernel's rounding.
pub const LEAST_GROWTH: u64 = 256 << 10;

/// The share of the size that raised an alarm below which the alarm is over: noise must not raise it again and again.
pub const SIZE_OVER: f64 = 0.95;

// Heaps of which only a collection of the whole tells what lives.

/// How much more a collection of the whole heap has to leave than an earlier one did, as a share of what that one left: caches and
/// compiled code of a program that is warm come and go by less.
pub const RISE_OF_WHAT_COLLECTIONS_LEAVE: f64 = 0.1;

/// The least that such a rise is, in bytes: four pages of V8's.
pub const LEAST_RISE_OF_WHAT_COLLECTIONS_LEAVE: u64 = 1 << 20;

/// Of a heap so much more can be reached at least than when that was looked at first where it is said to grow, in bytes: code that is warmed up
/// keeps some 50 kB more.
pub const LEAST_RISE_OF_WHAT_CAN_BE_REACHED: u64 = 256 << 10;

/// A heap that its runtime counts for its collector (Go) holds so much more at least than when it was first looked at where it is said to grow, in
/// bytes: four of the objects that Go draws.
pub const LEAST_RISE_OF_A_COUNTED_HEAP: u64 = 2 << 20;

/// And so much more, as one part in this many of what it holds. What is allocated while the collector runs counts as kept until the next
/// collection: a cache of 1.2 MB seemed to rise by a tenth in 40 s.
pub const LEAST_PART_OF_A_COUNTED_HEAP: u64 = 8;

/// The least part of blocks that can be reached where these tell whether they grow.
pub const LEAST_REACHABLE_PART: f64 = 0.5;

/// How long a collection has to come after the attach so that what it leaves of the blocks since then says anything, in milliseconds:
/// all that is younger may just be in use. Five seconds are a judgement.
pub const LEAST_WATCHED_BEFORE_A_COLLECTION_MS: u64 = 5000;

/// The least part of what a collection leaves of the blocks since the attach that is of the first quarter of that time, where blocks
/// stay: it would be a quarter, and nothing where blocks live for three quarters of the time or less. What is between is a judgement.
pub const LEAST_OF_THE_FIRST_QUARTER: f64 = 0.15;

/// The least part that is of the last quarter of that time: what is only of the beginning has not gone on. How much
/// is a judgement, below the quarter of an even growth.
pub const LEAST_OF_THE_LAST_QUARTER: f64 = 0.1;

/// How many times as long as a collection came after the attach its finding stands for what happens after it. This is a judgement, and
/// follows from no property of V8: what outlived a collection for some seconds says nothing of an hour later, and V8 decides when
/// it collects again. A smaller number says less often that something grows.
pub const TIMES_A_COLLECTION_STANDS: u64 = 8;

/// More bytes than V8 lets pile up without a collection of the whole heap (`kMaxInitialOldGenerationSize` in src/heap/heap.h).
pub const UNCOLLECTED_BYTES: u64 = 512 << 20;

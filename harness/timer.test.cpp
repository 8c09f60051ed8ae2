// timer.test.cpp: the sampling loop on a machine whose clock is a script.
#include "harness/timer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <stdexcept>

#include "harness/statistics.hpp"
#include "harness/testing.hpp"

namespace prnn {
namespace {

using testing::ScriptedMachine;

const std::vector<TensorSpec> kSpecs = {{"u", Role::input, Storage::f32, {10}}, {"h", Role::output, Storage::f32, {10}}, {"last", Role::last, Storage::f32, {2}}};
constexpr std::int64_t kSetBytes = 4 * (10 + 10 + 2);

bool all_bytes(const void* data, std::int64_t bytes, unsigned char value) {
  const auto* at = static_cast<const unsigned char*>(data);
  return std::all_of(at, at + bytes, [&](unsigned char byte) { return byte == value; });
}

struct TimerTest : ::testing::Test {
  ScriptedMachine machine;
  Arena arena{machine}, scratch{machine};
  TimerOptions options;

  TimerTest() {
    options.now = [this] { return machine.now_s; };
  }
  /// The k-th launch takes time_s(k); every output is seen poisoned, then written.
  Subject subject(std::function<double(int)> time_s) {
    return {.launch =
                [this, time_s = std::move(time_s), k = 0](const Tensors& t, Stream) mutable {
                  for (const char* name : {"h", "last"}) EXPECT_TRUE(all_bytes(t.at(name).data, t.at(name).spec.bytes(), 0xff)) << name << " of launch " << k;
                  std::memset(t.at("h").data, 1, 40), std::memset(t.at("last").data, 1, 8);
                  machine.launch_time_s = time_s(k++);
                },
            .check = [](const Tensors& t) { return all_bytes(t.at("h").data, 40, 1) && all_bytes(t.at("last").data, 8, 1) ? "" : "unwritten"; }};
  }
  Subject steady(double time_s) {
    return subject([=](int) { return time_s; });
  }
  GroupTiming time(const std::vector<Subject>& subjects, std::int64_t sets = 4, bool hot = false) {
    BufferSets buffers(arena, scratch, kSpecs, sets, hot);
    buffers.replicate();
    return time_group(machine, buffers, subjects, options);
  }
};

/// Noise of 20 % that never narrows below 1 %, independent: stops at the largest number of samples only.
double noisy(int k) { return 1e-4 * (1 + 0.2 * std::sin(12.9898 * k * k)); }

TEST_F(TimerTest, ASteadyCaseStopsAtTheSmallestNumberOfSamples) {
  const GroupTiming t = time({steady(1e-3)});
  EXPECT_EQ(t.cases[0].samples_s, std::vector<double>(kMinSamples, 1e-3));
  EXPECT_EQ(t.cases[0].stop, Stop::interval);
  EXPECT_EQ(t.cases[0].clock_mhz, 1500.0);
  EXPECT_NE(t.cases[0].method.find("stopped by interval width"), std::string::npos);
  EXPECT_NE(t.cases[0].method.find("steady clock"), std::string::npos);
}

TEST_F(TimerTest, ANoisyCaseGoesOnToTheMostSamplesOrAPlateau) {
  const Timing t = time({subject(noisy)}).cases[0];
  EXPECT_TRUE(t.stop == Stop::samples || t.stop == Stop::plateau);
  EXPECT_GT(t.samples_s.size(), 5u * kMinSamples);
  EXPECT_LE(t.samples_s.size(), static_cast<std::size_t>(kMaxSamples));
}

TEST_F(TimerTest, TheMostSamplesIsALimit) {
  int shrinking = 0;  // halving noise never plateaus, and 3 % of spread is never within 1 %
  const Timing t = time({subject([&](int k) { return 1e-5 * (k % 2 ? 1 + 0.5 * std::pow(0.98, shrinking++) : 1 - 0.5 * std::pow(0.98, shrinking)); })}).cases[0];
  EXPECT_LE(t.samples_s.size(), static_cast<std::size_t>(kMaxSamples));
}

TEST_F(TimerTest, AnIntervalThatNoLongerNarrowsIsAPlateau) {
  const Timing t = time({subject([](int k) { return k % 2 ? 1e-4 : 2e-4; })}).cases[0];
  EXPECT_EQ(t.stop, Stop::plateau);
  EXPECT_EQ(t.samples_s.size(), kMinSamples - 1 + 2 * kPlateauWindow);
}

TEST_F(TimerTest, PastItsBudgetACaseNeedOnlyBeBelowTheNoisyLimit) {
  // Between 1 % and 5 % of half-width: 20 samples of 50 ms are 1 s, well past the budget.
  const auto wobble = [](double scale) { return [scale](int k) { return scale * (1 + 0.03 * (k % 3 - 1)); }; };
  EXPECT_EQ(time({subject(wobble(50e-3))}).cases[0].stop, Stop::budget);
  EXPECT_NE(time({subject(wobble(1e-4))}).cases[0].stop, Stop::budget);
  EXPECT_EQ(time({subject([](int k) { return k % 2 ? 50e-3 : 100e-3; })}).cases[0].stop, Stop::plateau);
}

TEST_F(TimerTest, OnePercentIsNarrowEnoughAndTwoAreNot) {
  const auto stop = [&](double spread) { return time({subject([=](int k) { return 1e-4 * (1 + 2 * spread * (k % 2)); })}).cases[0].stop; };
  EXPECT_EQ(stop(0.009), Stop::interval);
  EXPECT_EQ(stop(0.011), Stop::plateau);
}

TEST_F(TimerTest, ACaseStopsWhenItsWallClockIsSpent) {
  options.case_s = 3;
  const GroupTiming t = time({steady(0.5), steady(1e-3)});
  EXPECT_EQ(t.cases[0].stop, Stop::case_time);
  EXPECT_EQ(t.cases[0].clock_mhz, 1500.0);
  EXPECT_EQ(t.cases[0].samples_s.size(), 5u);  // one warm-up of 0.5 s, then until 3 s are spent
  EXPECT_EQ(t.cases[1].stop, Stop::interval);
  Subject spent = steady(0.5);
  spent.spent_s = 2;
  EXPECT_EQ(time({spent}).cases[0].samples_s.size(), 1u);
  spent.spent_s = 4;
  const Timing none = time({spent}).cases[0];
  EXPECT_EQ(none.samples_s.size(), 0u);
  EXPECT_FALSE(none.clock_mhz) << "nothing was timed at it";
  options.paper = true, options.case_s = 0.5;
  machine.timed_launches = 0;
  EXPECT_TRUE(time({steady(0.04)}).cases[0].samples_s.empty());
  EXPECT_EQ(machine.timed_launches, 13) << "of 20 warm-ups";
}

TEST_F(TimerTest, TheDeadlineOfTheSweepStopsAll) {
  options.deadline_s = machine.now_s + 1.5;
  const GroupTiming t = time({steady(0.2), steady(0.2)});
  for (const Timing& c : t.cases) EXPECT_EQ(c.stop, Stop::total_time);
  EXPECT_NEAR(static_cast<double>(t.cases[0].samples_s.size() + t.cases[1].samples_s.size()), (1.5 - 2 * 0.2) / 0.2, 1);
  options.deadline_s = machine.now_s;
  EXPECT_TRUE(time({steady(0.2)}).cases[0].samples_s.empty());
}

TEST_F(TimerTest, AnInterruptEndsAfterTheSampleInFlight) {
  int asked = 0;
  options.interrupted = [&] { return ++asked > 15; };
  const GroupTiming t = time({steady(1e-3), steady(1e-3)});
  EXPECT_EQ(t.cases[0].stop, Stop::interrupted);
  EXPECT_LT(t.cases[0].samples_s.size(), static_cast<std::size_t>(kMinSamples));
}

TEST_F(TimerTest, RoundsHoldEachRunningCaseOnceInAnOrderFromTheSeedAlone) {
  const auto run = [&] { return time({steady(1e-3), steady(2e-3), subject(noisy)}); };
  const GroupTiming t = run();
  EXPECT_EQ(t.rounds, run().rounds);
  ++options.order_seed;
  EXPECT_NE(t.rounds, run().rounds);
  std::set<std::vector<int>> orders;
  for (int r = 0; r < kMinSamples; ++r) {
    std::vector<int> round = t.rounds[static_cast<std::size_t>(r)];
    orders.insert(round);
    std::sort(round.begin(), round.end());
    EXPECT_EQ(round, (std::vector<int>{0, 1, 2}));
  }
  EXPECT_GT(orders.size(), 3u);  // of six: shuffled within each round, not once
  EXPECT_EQ(t.rounds[kMinSamples], std::vector<int>{2});
  EXPECT_EQ(t.rounds.size(), t.cases[2].samples_s.size());
}

/// Turns as they are listed; what came of each.
struct Listed {
  std::vector<Turn> turns;
  std::vector<std::int64_t> samples;
  std::vector<double> spent_s;
  std::size_t at = 0;
  void give(TimerOptions& options) {
    options.next_turn = [this]() -> std::optional<Turn> { return at < turns.size() ? std::optional(turns[at++]) : std::nullopt; };
    options.turn_taken = [this](const Turn& turn, std::int64_t count, double seconds) {
      EXPECT_EQ(turn.subject, turns[at - 1].subject);
      samples.push_back(count), spent_s.push_back(seconds);
    };
  }
};

TEST_F(TimerTest, TurnsAreTakenAsTheyAreGivenEachAfterAnUnrecordedLaunch) {
  Listed listed{.turns = {{1, 3}, {0, 2}, {1, 1}}, .samples = {}, .spent_s = {}};
  listed.give(options);
  int launches = 0;
  const auto counting = subject([&](int k) { return launches = k + 1, k % 2 ? 1e-3 : 3e-3; });
  const GroupTiming t = time({steady(1e-3), counting});
  EXPECT_EQ(listed.samples, (std::vector<std::int64_t>{3, 2, 1}));
  ASSERT_EQ(t.cases[1].turns.size(), 2u);
  EXPECT_EQ(t.cases[1].turns[0].samples, 3);
  EXPECT_EQ(t.cases[1].turns[1].samples, 1);
  EXPECT_EQ(t.cases[1].turns[0].clock_mhz, 1500.0);
  EXPECT_EQ(t.cases[1].samples_s.size(), 4u);
  EXPECT_EQ(launches, kWarmUps + 4 + 2) << "one launch before each turn";
  EXPECT_EQ(t.cases[1].samples_s, (std::vector<double>{1e-3, 3e-3, 1e-3, 1e-3}));
  EXPECT_EQ(t.cases[0].samples_s, (std::vector<double>{1e-3, 1e-3}));
  EXPECT_EQ(t.cases[0].stop, Stop::turns);
  EXPECT_NEAR(listed.spent_s[1], 3e-3, 1e-12) << "the unrecorded launch too";
  EXPECT_TRUE(t.rounds.empty());
}

TEST_F(TimerTest, WhatIsToBeForgottenIs) {
  Listed listed{.turns = {{0, 3}, {}, {0, 2}}, .samples = {}, .spent_s = {}};
  listed.give(options);
  const Timing t = time({steady(1e-3)}).cases[0];
  EXPECT_EQ(t.samples_s.size(), 2u);
  EXPECT_EQ(t.host_s.size(), 2u);
  EXPECT_EQ(t.turns.size(), 1u);
}

TEST_F(TimerTest, ATurnOfLongLaunchesIsShort) {
  Listed listed{.turns = {{0, 20}, {1, 20}}, .samples = {}, .spent_s = {}};
  listed.give(options);
  time({steady(0.3), steady(6e-3)});
  EXPECT_EQ(listed.samples, (std::vector<std::int64_t>{kMinTurnSamples, 4}));  // the fourth of 6 ms begins before 20 ms are over
}

TEST_F(TimerTest, ACaseWhoseTimeIsUpTakesNoMoreTurns) {
  Listed listed{.turns = {{0, 1}, {0, 1}, {0, 1}}, .samples = {}, .spent_s = {}};
  listed.give(options);
  options.case_s = 0.45;
  const Timing t = time({steady(0.1)}).cases[0];  // the one warm-up of 0.1 s, then turns of 0.2 s
  EXPECT_EQ(listed.samples, (std::vector<std::int64_t>{1, 1, 0}));
  EXPECT_EQ(t.turns.size(), 2u);
  EXPECT_EQ(t.stop, Stop::case_time);
}

TEST_F(TimerTest, AWrongResultEndsItsTurns) {
  Listed listed{.turns = {{0, 5}, {0, 5}}, .samples = {}, .spent_s = {}};
  listed.give(options);
  Subject bad = steady(1e-3);
  bad.check = [count = 0](const Tensors&) mutable { return ++count == 3 ? "wrong" : ""; };  // the launch before the samples is checked too
  const Timing t = time({bad}).cases[0];
  EXPECT_EQ(listed.samples, (std::vector<std::int64_t>{2, 0}));
  EXPECT_EQ(t.stop, Stop::wrong);
  EXPECT_EQ(t.wrong, "wrong");
}

TEST_F(TimerTest, NoMoreSamplesAreTakenThanARecordKeeps) {
  Listed listed{.turns = {{0, 150}, {0, 150}}, .samples = {}, .spent_s = {}};
  listed.give(options);
  time({steady(1e-6)});
  EXPECT_EQ(listed.samples, (std::vector<std::int64_t>{150, kMaxSamples - 150}));
}

TEST_F(TimerTest, TheSeedIsInTheMethod) {
  options.order_seed = 4711;
  EXPECT_NE(time({steady(1e-3)}).cases[0].method.find("order seed 4711"), std::string::npos);
}

TEST_F(TimerTest, WarmsUpByCountOrByTime) {
  time({steady(1e-3)});
  EXPECT_EQ(machine.timed_launches, kWarmUps + kMinSamples);
  machine.timed_launches = 0;
  time({steady(20e-3)});  // 50 ms are over after the third
  EXPECT_EQ(machine.timed_launches, 3 + kMinSamples);
}

TEST_F(TimerTest, TheProtocolOfThePaperIsTwentyWarmUpsAndAHundredSamples) {
  options.paper = true;
  const Timing t = time({subject(noisy)}).cases[0];
  EXPECT_EQ(t.samples_s.size(), 100u);
  EXPECT_EQ(machine.timed_launches, 120);
  EXPECT_NE(t.method.find("protocol of the paper"), std::string::npos);
  EXPECT_EQ(time({steady(1e-6)}).cases[0].samples_s.size(), 100u);  // no early stop
  machine.timed_launches = 0;
  EXPECT_EQ(time({steady(0.06)}).cases[0].samples_s.size(), 3u);  // above 50 ms
  EXPECT_EQ(machine.timed_launches, 4);
}

TEST_F(TimerTest, HostTimeIsKeptBesideTheDevices) {
  machine.host_overhead_s = 5e-3;
  const Timing t = time({steady(1e-3)}).cases[0];
  EXPECT_DOUBLE_EQ(t.samples_s[0], 1e-3);
  EXPECT_DOUBLE_EQ(t.host_s[0], 6e-3);
}

TEST_F(TimerTest, OnlyUpToAThousandLaunchesStandBehindTheDelay) {
  machine.name = "cuda";
  Subject many = steady(1e-3);
  many.launches = 1000;
  EXPECT_NE(time({many}).cases[0].method.find("behind a queued delay"), std::string::npos);
  EXPECT_TRUE(machine.queued.back());
  many.launches = 1001;
  EXPECT_NE(time({many}).cases[0].method.find("no delay: 1001 launches"), std::string::npos);
  EXPECT_FALSE(machine.queued.back());
}

TEST_F(TimerTest, AShortLaunchIsTimedInAGraphToo) {
  machine.name = "cuda";
  machine.graph_time_s = 7e-6;
  const Timing t = time({steady(20e-6)}, 200).cases[0];
  EXPECT_EQ(t.graph_s, 7e-6);
  EXPECT_EQ(t.graph_launches, 50);  // 1 ms / 20 us
  EXPECT_NE(t.method.find("graph of 50 launches"), std::string::npos);
  EXPECT_EQ(time({steady(1e-6)}, 200).cases[0].graph_launches, 100);
  EXPECT_EQ(time({steady(49e-6)}, 200).cases[0].graph_launches, 21);
}

TEST_F(TimerTest, WithoutAGraphTheReasonIsGiven) {
  machine.graph_time_s = 7e-6;
  EXPECT_EQ(time({steady(20e-6)}).cases[0].graph_null_reason, "no graphs on this device");
  machine.name = "cuda";
  EXPECT_FALSE(time({steady(50e-6)}).cases[0].graph_s);
  Subject closed = steady(20e-6);
  closed.capturable = false;
  EXPECT_EQ(time({closed}).cases[0].graph_null_reason, "the solver cannot stand inside a graph");
  machine.graph_time_s.reset();
  EXPECT_EQ(time({steady(20e-6)}).cases[0].graph_null_reason, "the launch could not be captured");
}

TEST_F(TimerTest, TheLaunchesOfAGraphAreCheckedToo) {
  machine.name = "cuda";
  machine.graph_time_s = 7e-6;
  for (const int bad : {1, 3, 50}) {  // this launch of the graph writes nothing
    Subject s = steady(20e-6);
    s.launch = [this, bad, k = 0](const Tensors& t, Stream) mutable {
      if (++k != kWarmUps + kMinSamples + bad) std::memset(t.at("h").data, 1, 40), std::memset(t.at("last").data, 1, 8);
      machine.launch_time_s = 20e-6;
    };
    EXPECT_EQ(time({s}, 200).cases[0].wrong, "unwritten") << bad;
  }
}

TEST_F(TimerTest, AWrongCaseIsNotTimedInAGraph) {
  machine.name = "cuda";
  machine.graph_time_s = 7e-6;
  Subject s = steady(20e-6);
  s.check = [](const Tensors&) { return "no"; };
  EXPECT_FALSE(time({s}).cases[0].graph_s);
  EXPECT_EQ(machine.graph_launches, 0);
}

TEST_F(TimerTest, EachTimedOutputIsCheckedOnPoisonedMemory) {
  for (const bool hot : {false, true}) {
    for (int bad : {0, 7, kMinSamples - 1}) {  // the sample that writes nothing, although its set holds a right result of an earlier launch if it is not poisoned
      Subject s = steady(1e-3);
      const int per_sample = hot ? 2 : 1;
      s.launch = [this, bad_launch = kWarmUps + per_sample * (bad + 1), k = 0](const Tensors& t, Stream) mutable {
        if (++k != bad_launch) std::memset(t.at("h").data, 1, 40), std::memset(t.at("last").data, 1, 8);
        machine.launch_time_s = 1e-3;
      };
      const GroupTiming g = time({s, steady(1e-3)}, 4, hot);
      EXPECT_EQ(g.cases[0].wrong, "unwritten") << bad;
      EXPECT_EQ(g.cases[0].stop, Stop::wrong);
      EXPECT_EQ(g.cases[0].samples_s.size(), static_cast<std::size_t>(bad + 1));
      EXPECT_EQ(g.cases[1].stop, Stop::interval);
    }
  }
}

TEST_F(TimerTest, AnExceptionEndsItsCaseAlone) {
  Subject s = steady(1e-3);
  s.launch = [this, k = 0](const Tensors&, Stream) mutable {
    machine.launch_time_s = 1e-3;
    if (++k == kWarmUps + 1) throw std::runtime_error("boom");
    throw 7;
  };
  const GroupTiming g = time({s, steady(1e-3)});
  EXPECT_EQ(g.cases[0].stop, Stop::error);
  EXPECT_TRUE(g.cases[0].error);
  EXPECT_EQ(g.cases[1].samples_s.size(), static_cast<std::size_t>(kMinSamples));
}

// --- rotating buffers ------------------------------------------------------------------------------------------------

struct SetsTest : TimerTest {};

TEST_F(SetsTest, HoldCopiesOfTheInputsAndPoisonedOutputs) {
  for (const std::int64_t sets : {1, 2, 3, 7, 8}) {
    BufferSets buffers(arena, scratch, kSpecs, sets, false);
    ASSERT_EQ(buffers.count(), sets);
    std::memset(buffers.first().at("u").data, 5, 40);
    std::memset(buffers.first().at("h").data, 6, 40);
    buffers.replicate();
    std::set<const void*> places;
    for (std::int64_t i = 0; i < sets; ++i) {
      const Tensors t = buffers.set(i);
      EXPECT_TRUE(all_bytes(t.at("u").data, 40, 5)) << i;
      EXPECT_TRUE(all_bytes(t.at("h").data, 40, 0xff));
      EXPECT_TRUE(all_bytes(t.at("last").data, 8, 0xff));
      for (const auto& item : t.items) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(item.data) % 64, 0u);
        places.insert(item.data);
      }
    }
    EXPECT_EQ(places.size(), static_cast<std::size_t>(3 * sets));
  }
}

TEST_F(SetsTest, AreUsedInTurnWithoutEvictionWhereThereAreEnough) {
  BufferSets buffers(arena, scratch, kSpecs, 3, false);
  buffers.replicate();
  for (const std::int64_t expected : {0, 1, 2, 0, 1, 2, 0}) EXPECT_EQ(buffers.next(), expected);
  EXPECT_FALSE(buffers.evicts());
  EXPECT_TRUE(machine.zero_fills.empty());
  EXPECT_EQ(buffers.describe(), "rotating over 3 sets of " + std::to_string(kSetBytes) + " bytes");
}

TEST_F(SetsTest, EvictTheCacheBeforeEachPassWhereTheirNumberIsCapped) {
  BufferSets buffers(arena, scratch, kSpecs, kMaxSets + 1, false);
  EXPECT_EQ(buffers.count(), kMaxSets);
  buffers.replicate();
  for (int i = 0; i < kMaxSets; ++i) buffers.next();
  ASSERT_EQ(machine.zero_fills.size(), 1u);
  EXPECT_EQ(machine.zero_fills[0].second, 2 * machine.cache_bytes);
  EXPECT_EQ(buffers.next(), 0);
  EXPECT_EQ(machine.zero_fills.size(), 2u);
  EXPECT_NE(buffers.describe().find("cache evicted by writing 2000 bytes before each pass"), std::string::npos);
  EXPECT_FALSE(BufferSets(arena, scratch, kSpecs, kMaxSets, false).evicts());
}

TEST_F(SetsTest, HotIsOneSetThatTheSameLaunchHasJustUsed) {
  BufferSets buffers(arena, scratch, kSpecs, 99, true);
  EXPECT_EQ(buffers.count(), 1);
  EXPECT_EQ(buffers.next(), 0);
  EXPECT_EQ(buffers.next(), 0);
  EXPECT_FALSE(buffers.evicts());
  EXPECT_NE(buffers.describe().find("hot"), std::string::npos);
  time({steady(1e-3)}, 99, true);
  EXPECT_EQ(machine.timed_launches, kWarmUps + 2 * kMinSamples);
}

TEST_F(SetsTest, EveryTimedLaunchOfAGroupTakesTheNextSet) {
  std::vector<const void*> used;
  Subject a = steady(1e-3), b = a;
  a.launch = b.launch = [&](const Tensors& t, Stream) {
    used.push_back(t.at("u").data);
    std::memset(t.at("h").data, 1, 40), std::memset(t.at("last").data, 1, 8);
  };
  time({a, b}, 7);
  std::map<const void*, int> count;
  for (std::size_t i = 0; i < used.size(); ++i) {
    ++count[used[i]];
    EXPECT_EQ(used[i], used[i % 7]);
  }
  EXPECT_EQ(count.size(), 7u);
}

TEST_F(SetsTest, ReuseTheMemoryOfTheGroupBeforeWhereItFits) {
  const void* first = arena.at_least(4000);
  EXPECT_EQ(arena.at_least(4000), first);
  EXPECT_EQ(arena.at_least(1000), first);
  EXPECT_EQ(machine.allocations, 1);
  arena.at_least(4001);
  EXPECT_EQ(machine.allocations, 2);
  arena.at_least(kKeptBytes);
  arena.at_least(10);
  EXPECT_EQ(machine.allocations, 3);
  arena.at_least(kKeptBytes + 1);
  arena.at_least(10);  // far too much is given back
  EXPECT_EQ(machine.allocations, 5);
  machine.free = 100;
  EXPECT_THROW(arena.at_least(1000), OutOfMemory);
}

/// What the machine is asked for, a letter each: a(llocate), r(elease), e(vict), s(ynchronise).
class AskedMachine : public ScriptedMachine {
 public:
  std::string asked;
  void* allocate(std::int64_t bytes) override { return asked += 'a', ScriptedMachine::allocate(bytes); }
  void release(void* data) noexcept override { asked += 'r', ScriptedMachine::release(data); }
  void fill(void* to, unsigned char byte, std::int64_t bytes) override { asked += byte == 0 ? "e" : "", ScriptedMachine::fill(to, byte, bytes); }
  void synchronise() override { asked += 's', ScriptedMachine::synchronise(); }
};

TEST(SetsAndTheirMachine, MemoryThatDoesNotFitIsGivenBackFirst) {
  AskedMachine asked;
  Arena of_asked(asked);
  of_asked.at_least(4000), of_asked.at_least(5000);
  EXPECT_EQ(asked.asked, "ara") << "both at once may not fit";
}

TEST(SetsAndTheirMachine, AnEvictionIsOverBeforeTheNextLaunch) {
  AskedMachine asked;
  Arena of_asked(asked), its_scratch(asked);
  BufferSets buffers(of_asked, its_scratch, kSpecs, kMaxSets + 1, false);
  asked.asked.clear();
  buffers.next();
  EXPECT_EQ(asked.asked, "aes");
}

TEST(StopReasons, HaveDistinctNames) {
  std::set<std::string> names;
  for (int i = 0; i <= static_cast<int>(Stop::error); ++i) names.insert(to_string(static_cast<Stop>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(Stop::error) + 1);
}

}  // namespace
}  // namespace prnn

// cache.test.cpp: a truth from disk is the truth computed, or it is computed again.
#include <fstream>
#include <set>

#include <gtest/gtest.h>

#include "reference/reference.hpp"

namespace prnn {
namespace {

Problem problem(std::int64_t seq_len = 30) {
  Problem p;
  p.cell = "elman_diag";
  p.batch = 3;
  p.hidden = 5;
  p.seq_len = seq_len;
  return p;
}

bool same(const Truth& x, const Truth& y) {
  const auto equal = [](const DoubleDouble& a, const DoubleDouble& b) { return a.high == b.high && a.low == b.low; };
  return x.steps == y.steps && x.ends == y.ends && x.difference == y.difference && x.states.size() == y.states.size() &&
         std::equal(x.states.begin(), x.states.end(), y.states.begin(), equal);
}

class ReferenceCacheOnDisk : public ::testing::Test {
 protected:
  std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / ("prnn_cache_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
  void SetUp() override { std::filesystem::remove_all(directory); }
  void TearDown() override { std::filesystem::remove_all(directory); }

  std::size_t files() const { return std::size_t(std::distance(std::filesystem::directory_iterator(directory), {})); }
  static std::string read(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void write(const std::filesystem::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes; }
};

TEST_F(ReferenceCacheOnDisk, ReturnsWhatWasComputedWithoutComputing) {
  ReferenceCache first(directory);
  const Truth computed = first.truth(problem(), 1, 2);
  EXPECT_GT(first.spent_s(), 0);
  EXPECT_TRUE(same(computed, true_states(draw_channel(problem(), 1, 2))));
  ReferenceCache second(directory);
  EXPECT_TRUE(same(second.truth(problem(), 1, 2), computed));
  EXPECT_EQ(second.spent_s(), 0);
  EXPECT_EQ(files(), 1u);  // and no temporary file is left
}

TEST_F(ReferenceCacheOnDisk, OneLongEntryServesEveryShorterLength) {
  ReferenceCache(directory).truth(problem(40), 0, 0);
  ReferenceCache cache(directory);
  const Truth shorter = cache.truth(problem(7), 0, 0);
  EXPECT_EQ(cache.spent_s(), 0);
  EXPECT_TRUE(same(shorter, true_states(draw_channel(problem(7), 0, 0))));
  EXPECT_EQ(cache.truth(problem(41), 0, 0).steps, 41);  // a longer one is computed, and replaces it
  EXPECT_GT(cache.spent_s(), 0);
  ReferenceCache third(directory);
  third.truth(problem(41), 0, 0);
  EXPECT_EQ(third.spent_s(), 0);
  EXPECT_EQ(files(), 1u);
}

TEST_F(ReferenceCacheOnDisk, NeverTrustsADamagedFile) {
  ReferenceCache cache(directory);
  const Truth truth = cache.truth(problem(), 0, 0);
  const std::filesystem::path file = cache.file_of(problem(), 0, 0);
  const std::string good = read(file);
  std::vector<std::string> damaged{"", good.substr(0, 7), good.substr(0, good.size() / 2), good.substr(0, good.size() - 1), good + "x"};
  for (std::size_t at = 0; at < good.size(); at += 37) {
    damaged.push_back(good);
    damaged.back()[at] = char(damaged.back()[at] ^ 0x10);
  }
  for (const std::string& bytes : damaged) {
    write(file, bytes);
    ReferenceCache again(directory);
    EXPECT_TRUE(same(again.truth(problem(), 0, 0), truth));
    EXPECT_GT(again.spent_s(), 0);
    ASSERT_EQ(read(file), good);
  }
}

TEST_F(ReferenceCacheOnDisk, NeverTakesTheEntryOfAnotherChannel) {
  ReferenceCache cache(directory);
  cache.truth(problem(), 0, 1);
  const Truth truth = cache.truth(problem(), 0, 2);
  std::filesystem::copy_file(cache.file_of(problem(), 0, 1), cache.file_of(problem(), 0, 2), std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(same(cache.truth(problem(), 0, 2), truth));
}

TEST_F(ReferenceCacheOnDisk, KeysAreWhatADrawDependsOn) {
  const ReferenceCache cache(directory);
  const Problem base = problem();
  std::set<std::filesystem::path> files{cache.file_of(base, 0, 0)};
  const auto differs = [&](auto&& change) {
    Problem p = base;
    change(p);
    EXPECT_TRUE(files.insert(cache.file_of(p, 0, 0)).second);
  };
  differs([](Problem& p) { p.cell = "gru_diag"; });
  for (const Storage storage : {Storage::f64, Storage::bf16, Storage::f16}) differs([&](Problem& p) { p.storage = storage; });
  differs([](Problem& p) { p.regime = "wide"; });
  differs([](Problem& p) { p.weight_std = 0.5; });
  differs([](Problem& p) { p.weight_std = 0.5 + 0x1p-50; });
  differs([](Problem& p) { p.h0 = "random"; });
  differs([](Problem& p) { p.seed = 2; });
  EXPECT_TRUE(files.insert(cache.file_of(base, 1, 0)).second);
  EXPECT_TRUE(files.insert(cache.file_of(base, 0, 1)).second);
  EXPECT_TRUE(files.insert(cache.file_of(base, 0, 10)).second);

  const auto same_file = [&](const char* regime, auto&& change) {
    Problem p = base;
    p.regime = regime;
    p.text = std::make_shared<const std::vector<unsigned char>>(std::vector<unsigned char>{1, 2, 3});
    const std::filesystem::path before = cache.file_of(p, 0, 0);
    change(p);
    return cache.file_of(p, 0, 0) == before;
  };
  const auto longer = [](Problem& p) { p.seq_len *= 2; };
  const auto wider = [](Problem& p) { p.hidden *= 2; };
  const auto other_text = [](Problem& p) { p.text = std::make_shared<const std::vector<unsigned char>>(std::vector<unsigned char>{1, 2, 4}); };
  EXPECT_TRUE(same_file("paper", longer));
  EXPECT_TRUE(same_file("paper", wider));
  EXPECT_TRUE(same_file("paper", other_text));
  EXPECT_TRUE(same_file("paper", [](Problem& p) { p.batch *= 2; }));
  EXPECT_TRUE(same_file("public", longer));
  EXPECT_FALSE(same_file("public", wider));
  EXPECT_FALSE(same_file("text", longer));
  EXPECT_FALSE(same_file("text", other_text));
  EXPECT_FALSE(same_file("trained", longer));
  EXPECT_FALSE(same_file("trained", other_text));
}

TEST_F(ReferenceCacheOnDisk, SpentTimeShortensTruthsAndNeverReplacesALongerOne) {
  ReferenceCache none(directory, 0);
  EXPECT_EQ(none.truth(problem(), 0, 0).steps, 0);
  ReferenceCache cache(directory);
  EXPECT_EQ(cache.truth(problem(), 0, 0).steps, 30);
  EXPECT_EQ(none.truth(problem(60), 0, 0).steps, 30);  // out of time: the shorter entry is what there is
  ReferenceCache fresh(directory);
  EXPECT_EQ(fresh.truth(problem(), 0, 0).steps, 30);
  EXPECT_EQ(fresh.spent_s(), 0);
}

TEST_F(ReferenceCacheOnDisk, KeepsThatNothingBeyondCanBeJudged) {
  Problem p = problem(400);
  p.cell = "gru_diag";
  p.hidden = 12;
  p.weight_std = 6;  // chaotic channels among them
  std::int64_t ended = 0;
  for (std::int64_t d = 0; d < p.hidden; ++d) {
    ReferenceCache first(directory);
    const Truth truth = first.truth(p, 0, d);
    if (!truth.ends) continue;
    ++ended;
    Problem longer = p;
    longer.seq_len = 100'000;
    ReferenceCache second(directory);
    EXPECT_TRUE(same(second.truth(longer, 0, d), truth));
    Problem shorter = p;
    shorter.seq_len = truth.steps - 1;
    EXPECT_EQ(second.truth(shorter, 0, d).steps, truth.steps - 1);
    EXPECT_FALSE(second.truth(shorter, 0, d).ends);
    EXPECT_EQ(second.spent_s(), 0);
  }
  EXPECT_GT(ended, 0);
}

TEST_F(ReferenceCacheOnDisk, FillsEveryChannelOnceAtTheLongestLength) {
  ReferenceCache cache(directory);
  std::int64_t calls = 0, last = 0;
  const auto progress = [&](std::int64_t done, std::int64_t total) {
    ++calls;
    EXPECT_EQ(done, ++last);
    EXPECT_EQ(total, 4);
  };
  const std::int64_t sampled = std::int64_t(sampled_channels(problem()).size());
  ASSERT_EQ(sampled, 4);
  const ReferenceCache::Filled filled = cache.fill({problem(10), problem(50), problem(20)}, progress);
  EXPECT_EQ(filled.channels, sampled);
  EXPECT_EQ(filled.computed, sampled);
  EXPECT_EQ(filled.cut_short, 0);
  EXPECT_EQ(calls, sampled);
  EXPECT_EQ(files(), std::size_t(sampled));
  ReferenceCache after(directory);
  for (const auto& [b, d] : sampled_channels(problem())) EXPECT_TRUE(same(after.truth(problem(50), b, d), true_states(draw_channel(problem(50), b, d))));
  EXPECT_EQ(after.spent_s(), 0);
  EXPECT_EQ(after.fill({problem(50)}).computed, 0);
}

TEST_F(ReferenceCacheOnDisk, FillingStopsAtItsLimitOfTime) {
  Problem p = problem(60'000);
  p.cell = "lstm_cifg_diag";
  ReferenceCache cache(directory, 0.3);
  const ReferenceCache::Filled filled = cache.fill({p});
  EXPECT_EQ(filled.cut_short, filled.channels);
  const double overrun_s = 2;  // a loaded machine, never minutes
  EXPECT_LT(cache.spent_s(), 0.3 + overrun_s);
  for (const auto& [b, d] : sampled_channels(p)) EXPECT_GT(ReferenceCache(directory, 0).truth(p, b, d).steps, 0);  // a fair share for each
}

TEST_F(ReferenceCacheOnDisk, RefusesADirectoryItCannotWrite) {
  std::filesystem::create_directories(directory);
  write(directory / "file", "x");
  try {
    ReferenceCache cache(directory / "file" / "cache");
    FAIL();
  } catch (const BadInput& error) {
    EXPECT_NE(std::string(error.what()).find((directory / "file" / "cache").string()), std::string::npos);
  }
}

TEST_F(ReferenceCacheOnDisk, SaysWhereAnEntryCannotBeWritten) {
  ReferenceCache cache(directory);
  std::filesystem::create_directories(cache.file_of(problem(), 0, 0) / "in the way");
  EXPECT_THROW(cache.truth(problem(), 0, 0), std::runtime_error);
  EXPECT_THROW(cache.fill({problem()}), std::runtime_error);
  for (const auto& entry : std::filesystem::directory_iterator(directory)) EXPECT_NE(entry.path().extension(), ".tmp");
}

TEST(SampledChannels, AreDistinctInsideAndTheSameForEveryLength) {
  for (const auto& [batch, hidden] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 2}, {8, 256}, {3, 100}, {1, 64}}) {
    Problem p = problem();
    p.batch = batch;
    p.hidden = hidden;
    const auto channels = sampled_channels(p);
    EXPECT_EQ(std::set(channels.begin(), channels.end()).size(), channels.size());
    EXPECT_LE(channels.size(), 4u);
    for (const auto& [b, d] : channels) EXPECT_TRUE(b >= 0 && b < batch && d >= 0 && d < hidden);
    const auto holds = [&](std::int64_t b, std::int64_t d) { return std::count(channels.begin(), channels.end(), std::array<std::int64_t, 2>{b, d}) == 1; };
    EXPECT_TRUE(holds(0, 0));
    EXPECT_TRUE(holds(batch / 2, hidden / 2));
    EXPECT_TRUE(holds(batch - 1, hidden - 1));
    p.seq_len *= 3;
    EXPECT_EQ(sampled_channels(p), channels);
  }
}

}  // namespace
}  // namespace prnn

// visits.test.cpp: rows of several processes become one, and two rows pair visit by visit or not at all.
#include "harness/visits.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace prnn {
namespace {

CaseRecord row(std::vector<Visit> visits, std::vector<double> samples_s) {
  CaseRecord r;
  r.status = Status::ok;
  r.visits = std::move(visits);
  r.samples_s = std::move(samples_s);
  r.time_s.emplace();
  r.time_s->method = "m";
  return r;
}

TEST(VisitOrder, IsDrawnAnewAndFairToBothPrograms) {
  constexpr int kVisits = 40, kCases = 6;
  Random random(7), same(7);
  VisitOrder order(kCases), again(kCases);
  std::set<std::vector<std::size_t>> orders;
  std::vector<bool> before(kCases);
  int swapped = 0;
  for (int visit = 0; visit < kVisits; ++visit) {
    std::vector<std::size_t> indices;
    const auto& theirs = again.next(same);
    const auto& ours = order.next(random);
    ASSERT_EQ(ours.size(), static_cast<std::size_t>(kCases));
    for (std::size_t k = 0; k < ours.size(); ++k) {
      EXPECT_EQ(ours[k].index, theirs[k].index);
      EXPECT_EQ(ours[k].swapped, theirs[k].swapped);
      EXPECT_TRUE(visit % 2 == 0 || ours[k].swapped != before[ours[k].index]) << "who was first at a case is second at the next visit";
      if (visit % 2 == 0) swapped += ours[k].swapped;
      before[ours[k].index] = ours[k].swapped;
      indices.push_back(ours[k].index);
    }
    orders.insert(indices);
    std::sort(indices.begin(), indices.end());
    EXPECT_EQ(indices, (std::vector<std::size_t>{0, 1, 2, 3, 4, 5}));
  }
  EXPECT_GT(orders.size(), 30u) << "of 720";
  EXPECT_NEAR(swapped, kVisits / 2 * kCases / 2, 5 * std::sqrt(kVisits / 2 * kCases / 4.0)) << "drawn, not always the same";
}

TEST(Visits, CountProcesses) {
  EXPECT_EQ(processes_of(CaseRecord{}), 0);
  EXPECT_EQ(processes_of(row({}, {})), 0);
  EXPECT_EQ(processes_of(row({{1, 0, {}}, {1, 2, {}}}, {1, 2})), 3);
}

TEST(Visits, WithoutACounterpartGo) {
  CaseRecord a = row({{2, 0, {}}, {1, 0, {}}, {3, 1, {}}}, {1, 2, 3, 4, 5, 6}), b = row({{1, 0, {}}, {2, 0, {}}}, {1, 2, 3});
  equalise(b, a);
  EXPECT_EQ(a.visits->size(), 2u);
  EXPECT_EQ(a.samples_s, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(b.visits->size(), 2u);
  EXPECT_EQ(b.samples_s.size(), 3u);
  CaseRecord alone = row({{1, 0, {}}}, {1});
  alone.visits.reset();
  equalise(a, alone);
  EXPECT_EQ(a.visits->size(), 2u);
  unpair(a);
  EXPECT_FALSE(a.visits);
  EXPECT_EQ(a.samples_s.size(), 3u);
  EXPECT_TRUE(a.null_reasons.contains("visits"));
  unpair(alone);
  EXPECT_FALSE(alone.null_reasons.contains("visits"));
}

TEST(Visits, OfAFurtherProcessFollowUnderItsNumber) {
  CaseRecord a = row({{1, 0, {}}}, {1});
  add_process(a, row({{2, 0, 900.0}}, {2, 3}), 4);
  ASSERT_EQ(a.visits->size(), 2u);
  EXPECT_EQ(a.visits->at(1).process, 4);
  EXPECT_EQ(a.visits->at(1).samples, 2);
  EXPECT_EQ(a.visits->at(1).clock_mhz, 900.0);
  EXPECT_EQ(a.samples_s, (std::vector<double>{1, 2, 3}));
  CaseRecord without = row({{1, 0, {}}}, {9});
  without.visits.reset();
  add_process(a, without, 5);
  EXPECT_EQ(a.samples_s.size(), 3u);
  add_process(without, a, 5);
  EXPECT_EQ(without.samples_s.size(), 1u);
}

TEST(Visits, AStatusThatOneProcessSawIsTheRows) {
  CaseRecord a = row({{1, 0, {}}}, {1}), wrong = row({{1, 0, {}}}, {2});
  wrong.status = Status::wrong;
  wrong.reason = "error 20 x bound";
  CaseRecord late = wrong;
  late.status = Status::timeout;
  late.reason = "limits.total_s = 60 was spent before this case";
  add_process(a, late, 1);
  EXPECT_EQ(a.status, Status::ok);
  EXPECT_EQ(a.visits->size(), 1u);
  add_process(a, wrong, 2);
  EXPECT_EQ(a.status, Status::wrong);
  EXPECT_EQ(a.reason, "in process 2: error 20 x bound");
  EXPECT_FALSE(a.visits);
}

TEST(Visits, TogetherGiveTheSummary) {
  CaseRecord a = row({{2, 0, 1000.0}, {1, 1, 1200.0}, {1, 1, {}}, {1, 1, 1100.0}}, {1, 9, 2, 3, 4});
  a.floor_s = 1.5;
  a.floor_fraction = 7;
  a.clock_mhz = 1;
  summarise(a);
  EXPECT_EQ(a.time_s->median, 3);
  EXPECT_EQ(a.time_s->samples, 5);
  EXPECT_EQ(a.time_s->method, "m");
  EXPECT_EQ(a.floor_fraction, 0.5);
  EXPECT_EQ(a.clock_mhz, 1100.0);
  CaseRecord untimed;
  summarise(untimed);
  EXPECT_FALSE(untimed.time_s);
}

}  // namespace
}  // namespace prnn

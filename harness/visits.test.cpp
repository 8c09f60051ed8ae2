// visits.test.cpp: rows of several processes become one, and two rows pair visit by visit or not at all.
#include "harness/visits.hpp"

#include <gtest/gtest.h>

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

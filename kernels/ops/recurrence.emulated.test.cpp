// recurrence.emulated.test.cpp: the device kernels of the op give what the host gives.
#include <gtest/gtest.h>

#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn {
namespace {

using testing::Workbench;

TEST(RecurrenceOnADevice, DrawsBitwiseWhatTheHostDraws) {
  const auto cpu = testing::open_machine("cpu"), emulated = testing::open_machine("emulated");
  testing::for_every_cell_and_storage([&](const std::string& cell, Storage storage) {
    Problem p;
    p.cell = cell;
    p.storage = storage;
    p.batch = 2;
    p.hidden = 33;
    p.seq_len = 9;
    p.h0 = "random";
    p.pass = "backward";
    const std::string text = "some \xe4 text";
    p.text = std::make_shared<std::vector<unsigned char>>(text.begin(), text.end());
    for (const char* regime : {"long_memory", "impulses", "chaotic", "text", "trained"}) {
      p.regime = regime;
      p.hidden = p.regime == "chaotic" ? 3 : p.regime == "trained" ? 70 : 33;  // trained: more than a model's channels
      if (find_op(p.op).why_not(p) != "") continue;                            // a cell without chaos or model
      const Workbench here(p, *cpu), there(p, *emulated);
      for (const char* name : {"u", "a", "h0", "h", "grad_h", "grad_last"}) EXPECT_EQ(here.bytes(name), there.bytes(name)) << cell << " " << regime << " " << name;
    }
  });
}

TEST(RecurrenceOnADevice, JudgesAndGathersAsTheHostDoes) {
  const auto cpu = testing::open_machine("cpu"), emulated = testing::open_machine("emulated");
  for_each_compiled([&]<class Cell, class T>() {
    Problem p;
    p.cell = Cell::name;
    p.storage = storage_of<T>;
    p.batch = 2;
    p.hidden = 3;
    p.seq_len = 11;
    Workbench here(p, *cpu), there(p, *emulated);
    here.solve("seq_fused");
    there.put("h", here.template values<T>("h"));
    there.put("last", here.template values<compute_t<T>>("last"));
    EXPECT_EQ(here.ratio_local(), there.ratio_local());
    EXPECT_EQ(here.channel("h", 1, 2), there.channel("h", 1, 2));
    auto h = here.template values<T>("h");
    h[7] = to_storage<T>(compute_t<T>(0.75));
    here.put("h", h);
    there.put("h", h);
    EXPECT_GT(there.ratio_local(), 16.0);
    EXPECT_EQ(here.ratio_local(), there.ratio_local());
  });
}

TEST(RecurrenceOnADevice, JudgesGradientsAsTheHostDoes) {
  const auto cpu = testing::open_machine("cpu"), emulated = testing::open_machine("emulated");
  for_each_compiled([&]<class Cell, class T>() {
    using C = compute_t<T>;
    Problem p;
    p.cell = Cell::name;
    p.storage = storage_of<T>;
    p.batch = 3;
    p.hidden = 35;
    p.seq_len = 4;
    p.pass = "backward";
    Workbench here(p, *cpu), there(p, *emulated);
    here.solve("seq_stepwise");
    const auto expect_agreement = [&] {
      there.put("du", here.template values<T>("du"));
      there.put("da", here.template values<C>("da"));
      there.put("dh0", here.template values<C>("dh0"));
      const LocalRatios a = find_op(p.op).local_ratios(p, *cpu, here.tensors), b = find_op(p.op).local_ratios(p, *emulated, there.tensors);
      EXPECT_EQ(a.du, b.du);
      EXPECT_EQ(a.da, b.da);
      EXPECT_EQ(a.dh0, b.dh0);
      return a;
    };
    EXPECT_LE(expect_agreement().worst(), 16);
    auto du = here.template values<T>("du");
    auto da = here.template values<C>("da"), dh0 = here.template values<C>("dh0");
    du.back() = to_storage<T>(to_compute(du.back()) + 1);
    da.back() += 1;
    dh0.back() += 1;
    here.put("du", du);
    EXPECT_GT(expect_agreement().du, 16);
    here.put("da", da);
    EXPECT_GT(expect_agreement().da, 16);
    here.put("dh0", dh0);
    EXPECT_GT(expect_agreement().dh0, 16);
  });
}

}  // namespace
}  // namespace prnn

// trained.test.cpp: the models that the program carries, how their text is read, and that regime "trained" is what they say.
#include "kernels/ops/trained.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn {
namespace {

constexpr int kWidth = 2, kChannels = 3, kInputs = 2, kWeights = 1;

/// A model whose numbers say where they stand: embedding (byte, 1), projection e i d -> 100 e + 10 i + d, bias i d -> (10 i + d) / 8, weights d -> d + 0.5.
std::string small_text() {
  std::ostringstream text;
  text << "cell c\nchannels 3\nwidth 2\nembedding 128 2\n";
  for (int byte = 0; byte < kTrainedBytes; ++byte) text << byte << " 1\n";
  text << "projection 2 2 3\n";
  for (int e = 0; e < kWidth; ++e) {
    for (int i = 0; i < kInputs; ++i) {
      for (int d = 0; d < kChannels; ++d) text << 100 * e + 10 * i + d << " ";
    }
  }
  text << "\nbias 2 3\n0 0.125 0.25 1.25 1.375 1.5\nweights 1 3\n0.5 1.5 2.5\n";
  return text.str();
}

TEST(TrainedModels, AreBiasPlusProjectedEmbedding) {
  const TrainedModel model = parse_trained(small_text(), "c", kInputs, kWeights);
  EXPECT_EQ(model.channels, kChannels);
  EXPECT_EQ(model.weights, (std::vector<double>{0.5, 1.5, 2.5}));
  ASSERT_EQ(model.inputs.size(), std::size_t(kTrainedBytes * kInputs * kChannels));
  for (int byte = 0; byte < kTrainedBytes; ++byte) {
    for (int i = 0; i < kInputs; ++i) {
      for (int d = 0; d < kChannels; ++d) {
        const double low = 10 * i + d;
        EXPECT_EQ(model.inputs[std::size_t((byte * kInputs + i) * kChannels + d)], low / 8 + byte * low + (100 + low)) << byte << " " << i << " " << d;
      }
    }
  }
}

TEST(TrainedModels, AreRefusedWhereTheyAreNotAsExpected) {
  const std::string whole = small_text();
  const auto refusal = [](const std::string& text, const char* cell = "c", std::int64_t inputs = kInputs, std::int64_t weights = kWeights) -> std::string {
    try {
      parse_trained(text, cell, inputs, weights);
    } catch (const BadInput& bad) {
      return bad.what();
    }
    return "accepted";
  };
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_EQ(refusal(whole), "accepted");
  EXPECT_EQ(refusal(whole, "d"), "trained model of d: 'c'; expected d");
  EXPECT_EQ(refusal(whole, "c", 3), "trained model of c: '2'; expected 3");
  EXPECT_EQ(refusal(whole, "c", 2, 2), "trained model of c: '1'; expected 2");
  EXPECT_EQ(refusal(with("channels 3", "channels 0")), "trained model of c: '0'; expected channels, 1 to 4096");
  EXPECT_EQ(refusal(with("channels 3", "channels 4097")), "trained model of c: '4097'; expected channels, 1 to 4096");
  EXPECT_EQ(refusal(with("width 2", "width 2x")), "trained model of c: '2x'; expected width, 1 to 4096");
  EXPECT_EQ(refusal(with("bias", "bais")), "trained model of c: 'bais'; expected bias");
  EXPECT_EQ(refusal(with("0.125", "0.125z")), "trained model of c: '0.125z'; expected 6 numbers of bias");
  EXPECT_EQ(refusal(with("0.125", "nan")), "trained model of c: 'nan'; expected 6 numbers of bias");
  EXPECT_EQ(refusal(with("0.125", "1e99")), "trained model of c: '1e99'; expected 6 numbers of bias");
  EXPECT_EQ(refusal(with(" 2.5", "")), "trained model of c: ''; expected 3 numbers of weights");
  EXPECT_EQ(refusal(whole + "1"), "trained model of c: '1'; expected no more");
}

/// A problem of regime trained on a short text with a byte beyond 127.
Problem trained_problem(const char* cell, Storage storage) {
  Problem p = testing::random_start_problem(cell, storage, 2, 70, 5);  // more channels than a model has
  p.regime = "trained";
  const std::string text = "a text\xe4 of no length at all";
  p.text = std::make_shared<std::vector<unsigned char>>(text.begin(), text.end());
  return p;
}

TEST(RegimeTrained, IsTheModelOfItsCellRepeatedOverChannels) {
  const auto cpu = testing::open_machine("cpu");
  for (const char* cell : {"gru_diag", "lstm_cifg_diag"}) {
    const TrainedModel* model = trained_model(cell);
    ASSERT_NE(model, nullptr);
    ASSERT_LT(model->channels, 70);
    const Problem p = trained_problem(cell, Storage::f64);
    const testing::Workbench bench(p, *cpu);
    const auto u = bench.values<double>("u"), a = bench.values<double>("a");
    const auto C = std::size_t(model->channels), inputs = std::size_t(bench.tensors.at("u").spec.shape[2]), weights = std::size_t(bench.tensors.at("a").spec.shape[0]);
    for (std::size_t d = 0; d < 70; ++d) {
      for (std::size_t k = 0; k < weights; ++k) EXPECT_EQ(a[k * 70 + d], model->weights[k * C + d % C]);
      for (std::size_t b = 0; b < 2; ++b) {
        for (std::size_t l = 0; l < 5; ++l) {
          const std::size_t byte = (*p.text)[b * 5 + l] % 128u;
          for (std::size_t k = 0; k < inputs; ++k) EXPECT_EQ(u[((b * 5 + l) * inputs + k) * 70 + d], model->inputs[(byte * inputs + k) * C + d % C]);
        }
      }
      const ChannelData channel = draw_channel(p, 1, std::int64_t(d));
      EXPECT_EQ(channel.inputs, find_op(p.op).channel(p, *cpu, bench.tensors, "u", 1, std::int64_t(d)));
      EXPECT_EQ(channel.weights, find_op(p.op).channel(p, *cpu, bench.tensors, "a", 0, std::int64_t(d)));
    }
  }
}

TEST(RegimeTrained, TakesWeightStdInPlaceOfTheModelsWeights) {
  Problem p = trained_problem("gru_diag", Storage::f64), plain = p;
  p.weight_std = 0.25;
  const ChannelData drawn = draw_channel(p, 0, 1), of_model = draw_channel(plain, 0, 1);
  EXPECT_EQ(drawn.inputs, of_model.inputs);
  for (int k = 0; k < 3; ++k) EXPECT_EQ(drawn.weights[std::size_t(k)], draw_weight({.weight_deviation = 0.25}, p.seed, k, 1));
}

TEST(RegimeTrained, IsUndefinedWithoutAModelAndBadInputWithoutAText) {
  const Problem none = trained_problem("elman_diag", Storage::f32);
  EXPECT_EQ(find_op(none.op).why_not(none), "no model of elman_diag has been trained");
  EXPECT_THROW(regime_of(none), BadInput);
  EXPECT_EQ(trained_model("elman_diag"), nullptr);
  EXPECT_EQ(trained_text("elman_diag"), "");
  Problem p = trained_problem("gru_diag", Storage::f32);
  EXPECT_EQ(find_op(p.op).why_not(p), "");
  EXPECT_NE(trained_text("gru_diag"), trained_text("lstm_cifg_diag"));
  p.text.reset();
  EXPECT_THROW(regime_of(p), BadInput);
  EXPECT_TRUE(reads_text("text") && reads_text("trained") && !reads_text("paper"));
}

// What training is for: another recurrence than the initialisation's, and one that learnt something of its text.
TEST(RegimeTrained, HasFiniteModelsThatAreNoInitialisation) {
  for (const char* cell : {"gru_diag", "lstm_cifg_diag"}) {
    const TrainedModel& model = *trained_model(cell);
    double largest = 0;
    for (const double a : model.weights) largest = std::max(largest, std::fabs(a));
    EXPECT_GT(largest, 0.5) << cell;  // beyond the clip of the initialisation
    for (const double u : model.inputs) EXPECT_LT(std::fabs(u), 100) << cell;
  }
}

}  // namespace
}  // namespace prnn

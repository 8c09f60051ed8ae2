// witness.test.cpp: the reference against numbers of other hands, and that a damaged witness file is refused or found out.
#include <cmath>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "reference/reference.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

using Json = nlohmann::json;
const std::filesystem::path kWitness = std::filesystem::path(__FILE__).parent_path() / "testdata" / "witness";

std::vector<std::filesystem::path> witness_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(kWitness)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

Json load(const char* name) { return Json::parse(std::ifstream(kWitness / name)); }

/// A file of this test's own, in this process.
std::filesystem::path own_file() {
  return std::filesystem::path(::testing::TempDir()) /
         ("prnn_witness_" + std::to_string(getpid()) + "_" + ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json");
}

/// Reads what `json` says, through a file.
WitnessFile read(const Json& json) {
  const std::filesystem::path path = own_file();
  std::ofstream(path) << json.dump();
  return read_witness(path.string());
}

/// The message of the BadInput that reading gives; empty if it reads.
std::string refusal(const Json& json) {
  try {
    read(json);
    return "";
  } catch (const BadInput& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(own_file().string()), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
}

template <class C>
ErrorReport verdict(const WitnessFile& file) {
  ErrorReport report;
  judge_witness(
      file, [&](std::int64_t c) { return testing::evaluate<C>(file.channels[std::size_t(c)].data); }, std::is_same_v<C, double> ? Storage::f64 : Storage::f32, report);
  return report;
}

TEST(Witness, ReferenceAgreesWithEveryFile) {
  ASSERT_EQ(witness_files().size(), 12u);
  for (const auto& path : witness_files()) {
    const WitnessFile file = read_witness(path.string());
    const WitnessDifference difference = witness_reference_check(file);
    EXPECT_TRUE(difference.agrees()) << path << " states " << difference.states << " weights " << difference.grad_weights << " inputs " << difference.grad_inputs << " initial "
                                     << difference.grad_initial;
  }
}

TEST(Witness, SequentialFloatAndDoublePass) {
  for (const auto& path : witness_files()) {
    const WitnessFile file = read_witness(path.string());
    const ErrorReport f32 = verdict<float>(file), f64 = verdict<double>(file);
    EXPECT_TRUE(passes(*f32.ratio_forward)) << path << " " << *f32.ratio_forward;
    EXPECT_TRUE(passes(*f64.ratio_forward)) << path << " " << *f64.ratio_forward;
    EXPECT_EQ(*f64.verified_prefix, file.seq_len) << path;
    EXPECT_EQ(f64.channels_checked.size(), file.channels.size());
    EXPECT_NE(f64.reference.find(file.set), std::string::npos);
  }
}

/// End to end in the type C: forward, then back from what was stored, the loss being the file's of that.
template <class C>
GradientReports gradient_verdict(const WitnessFile& file) {
  const auto computed = [&](std::int64_t c) {
    const ChannelData& data = file.channels[std::size_t(c)].data;
    BackwardChannel channel{data, testing::evaluate<C>(data), {{}, std::vector<double>(data.initial.size(), 0)}};
    for (std::size_t i = 0; i < channel.states.size(); ++i) {
      if (*file.loss == Loss::all_components || (i + 1) % data.initial.size() == 0) channel.loss.states.push_back(2 * channel.states[i]);
    }
    return testing::evaluate_gradients<C>(channel);
  };
  GradientReports reports;
  judge_witness_gradients(file, computed, std::is_same_v<C, double> ? Storage::f64 : std::is_same_v<C, Bf16> ? Storage::bf16 : Storage::f32, reports);
  return reports;
}

TEST(Witness, SequentialGradientsPass) {
  int files = 0;
  for (const auto& path : witness_files()) {
    const WitnessFile file = read_witness(path.string());
    if (!file.loss) {
      EXPECT_THROW(gradient_verdict<float>(file), std::invalid_argument);
      continue;
    }
    ++files;
    for (const GradientReports& reports : {gradient_verdict<float>(file), gradient_verdict<double>(file), gradient_verdict<Bf16>(file)}) {
      for (const ErrorReport* report : {&reports.du, &reports.da, &reports.dh0}) {
        EXPECT_TRUE(passes(*report->ratio_forward)) << path << " " << *report->ratio_forward;
        EXPECT_EQ(*report->verified_prefix, file.seq_len) << path;
        EXPECT_EQ(report->channels_checked.size(), file.channels.size()) << path;
        EXPECT_NE(report->reference.find(file.set), std::string::npos);
      }
    }
  }
  EXPECT_EQ(files, 9);
}

TEST(Witness, FindsOneGradientChanged) {
  for (const char* name : {"gru_diag-base.json", "lstm_cifg_diag-start.json", "elman_diag-strong.json"}) {
    const Json whole = load(name);
    const std::size_t last = whole["channels"].size() - 1;
    // A hundredth is beyond c x bound in f32, a millionth in f64.
    const auto ratios = [&](const std::string& where, double by, bool in_double) {
      Json json = whole;
      Json& gradient = json["channels"][last][Json::json_pointer(where)];
      gradient = fmt::format("{:.17g}", std::stod(gradient.get<std::string>()) * (1 + by));
      const WitnessFile file = read(json);
      const GradientReports reports = in_double ? gradient_verdict<double>(file) : gradient_verdict<float>(file);
      return std::array{*reports.du.ratio_forward, *reports.da.ratio_forward, *reports.dh0.ratio_forward};
    };
    const char* const where[] = {"/grad_inputs/3/0", "/grad_weights/0", "/grad_initial_state/0"};
    for (std::size_t which = 0; which < 3; ++which) {
      for (const bool in_double : {true, false}) {
        const auto off = ratios(where[which], in_double ? 1e-6 : 1e-2, in_double);
        for (std::size_t other = 0; other < 3; ++other) EXPECT_EQ(passes(off[other]), other != which) << name << " " << where[which] << " " << in_double << " " << off[other];
      }
    }
  }
}

TEST(Witness, LeavesOutChannelsWhoseStatesNoBoundFollows) {
  // h' = tanh(8 h + u) leaves 0 by a factor 8 a step.
  Json json = load("elman_diag-base.json");
  json["channels"].erase(json["channels"].begin() + 1, json["channels"].end());
  Json& channel = json["channels"][0];
  channel["weights"][0] = "8";
  channel["initial_state"][0] = "0";
  for (Json& u : channel["inputs"]) u[0] = "0";
  const GradientReports reports = gradient_verdict<float>(read(json));
  EXPECT_FALSE(reports.du.ratio_forward || reports.da.ratio_forward || reports.dh0.ratio_forward);
  EXPECT_TRUE(reports.du.channels_checked.empty());
}

TEST(Witness, FindsOneStateChangedByAThousandth) {
  for (const char* name : {"gru_diag-base.json", "lstm_cifg_diag-base.json", "elman_diag-base.json", "lstm_cifg_diag-long.json"}) {
    for (const bool first : {true, false}) {
      Json json = load(name);
      const std::size_t channel = first ? 0 : json["channels"].size() - 1, step = json["state_steps"].size() / 2;
      Json& state = json["channels"][channel]["states"][step].back();
      state = std::to_string(std::stod(state.get<std::string>()) * 1.001);
      const WitnessFile file = read(json);
      EXPECT_FALSE(witness_reference_check(file).agrees()) << name;
      EXPECT_FALSE(passes(*verdict<float>(file).ratio_forward)) << name;
      EXPECT_FALSE(passes(*verdict<double>(file).ratio_forward)) << name;
    }
  }
}

TEST(Witness, FindsAChangedGradientOfEveryKind) {
  const auto agrees_with = [](auto&& change) {
    Json json = load("lstm_cifg_diag-start.json");
    change(json["channels"][1]);
    return witness_reference_check(read(json)).agrees();
  };
  const auto nudge = [](Json& value) { value = std::to_string(std::stod(value.get<std::string>()) * 1.001); };
  EXPECT_FALSE(agrees_with([&](Json& channel) { nudge(channel["grad_weights"][3]); }));
  EXPECT_FALSE(agrees_with([&](Json& channel) { nudge(channel["grad_inputs"][5][2]); }));
  EXPECT_FALSE(agrees_with([&](Json& channel) { nudge(channel["grad_initial_state"][0]); }));
  // and the other loss gives other gradients
  Json json = load("lstm_cifg_diag-base.json");
  json["loss"] = "sum over steps of (last state component)^2";
  EXPECT_FALSE(witness_reference_check(read(json)).agrees());
}

TEST(Witness, AgreementIsAbsoluteBelowOneAndRelativeAbove) {
  const auto difference = [](const char* initial, const char* state) {  // a GRU whose z is 0 keeps its state: 12 steps of it
    Json json = load("gru_diag-base.json");
    json["loss"] = nullptr;
    json["channels"].erase(json["channels"].begin() + 1, json["channels"].end());
    Json& channel = json["channels"][0];
    channel["initial_state"][0] = initial;
    for (Json& u : channel["inputs"]) u[0] = "-512";
    for (Json& h : channel["states"]) h[0] = initial;
    channel["states"][5][0] = state;
    return witness_reference_check(read(json)).states;
  };
  EXPECT_NEAR(difference("0.015625", "0.015625000000000000000000000004"), 4e-30, 1e-32);
  EXPECT_NEAR(difference("1024", "1024.000000000000000000000001024"), 1e-27, 1e-31);
}

TEST(Witness, ReadsWhatTheFileSays) {
  const WitnessFile file = read_witness((kWitness / "lstm_cifg_diag-long.json").string());
  EXPECT_EQ(file.cell, "lstm_cifg_diag");
  EXPECT_EQ(file.set, "long");
  EXPECT_EQ(file.seq_len, 4097);
  EXPECT_FALSE(file.loss);
  ASSERT_EQ(file.channels.size(), 2u);
  EXPECT_EQ(file.state_steps.size(), 30u);
  EXPECT_EQ(file.state_steps.back(), 4096);
  const Json channel = load("lstm_cifg_diag-long.json")["channels"][1];
  EXPECT_EQ(file.channels[1].data.inputs[3 * 4096 + 2], std::stod(channel["inputs"][4096][2].get<std::string>()));
  EXPECT_EQ(file.channels[1].states[2 * 29 + 1].high, std::stod(channel["states"][29][1].get<std::string>()));
  EXPECT_EQ(file.channels[1].data.weights[4], std::stod(channel["weights"][4].get<std::string>()));
  EXPECT_EQ(read_witness((kWitness / "lstm_cifg_diag-base.json").string()).loss, Loss::all_components);
  EXPECT_EQ(read_witness((kWitness / "lstm_cifg_diag-start.json").string()).loss, Loss::last_component);
}

TEST(Witness, NamesAMissingKey) {
  for (const char* key : {"cell", "set", "weights", "inputs", "state", "seq_len", "state_steps", "loss", "digits", "channels"}) {
    Json json = load("gru_diag-base.json");
    json.erase(key);
    EXPECT_NE(refusal(json).find(std::string(key) + ": missing"), std::string::npos) << key;
  }
  for (const char* key : {"weights", "inputs", "initial_state", "states", "grad_weights", "grad_inputs", "grad_initial_state"}) {
    Json json = load("gru_diag-base.json");
    json["channels"][2].erase(key);
    EXPECT_NE(refusal(json).find("channels[2]." + std::string(key) + ": missing"), std::string::npos) << key;
  }
}

TEST(Witness, RefusesWhatIsNotANumber) {
  for (const Json& bad : {Json("zero"), Json(""), Json("0.5x"), Json("nan"), Json("inf"), Json("1e999"), Json(0.5), Json(nullptr), Json::array()}) {
    for (const char* key : {"inputs", "states", "grad_inputs"}) {
      Json json = load("gru_diag-base.json");
      json["channels"][1][key][3][0] = bad;
      EXPECT_NE(refusal(json).find("channels[1]." + std::string(key) + "[3][0]: "), std::string::npos) << bad << " in " << key << ": " << refusal(json);
    }
    for (const char* key : {"weights", "initial_state", "grad_weights", "grad_initial_state"}) {
      Json json = load("gru_diag-base.json");
      json["channels"][1][key][0] = bad;
      EXPECT_NE(refusal(json).find("channels[1]." + std::string(key) + "[0]: "), std::string::npos) << bad << " in " << key;
    }
  }
  Json json = load("gru_diag-base.json");
  json["channels"][0]["inputs"][0][0] = "0.1";
  EXPECT_NE(refusal(json).find("not exactly a double"), std::string::npos);
}

TEST(Witness, RefusesWrongLengthsAndUnknownWords) {
  const auto refused = [](auto&& change, const char* words) {
    Json json = load("gru_diag-base.json");
    change(json);
    EXPECT_NE(refusal(json).find(words), std::string::npos) << words << ": " << refusal(json);
  };
  for (const char* key : {"weights", "inputs", "initial_state", "states", "grad_weights", "grad_inputs", "grad_initial_state"}) {
    refused([&](Json& json) { json["channels"][3][key].erase(0); }, (std::string("channels[3].") + key + ": has ").c_str());
    refused([&](Json& json) { json["channels"][3][key] = "text"; }, (std::string("channels[3].") + key + ": expected an array").c_str());
  }
  refused([](Json& json) { json["channels"][0]["inputs"][2].push_back("0"); }, "channels[0].inputs[2]: has 4 entries; expected 3");
  refused([](Json& json) { json["state_steps"][11] = 12; }, "state_steps[11]: ");
  refused([](Json& json) { json["state_steps"][1] = 0; }, "state_steps[1]: ");
  refused([](Json& json) { json["state_steps"] = 3; }, "state_steps: ");
  refused([](Json& json) { json["seq_len"] = 0; }, "seq_len: ");
  refused([](Json& json) { json["seq_len"] = "12"; }, "seq_len: ");
  refused([](Json& json) { json["digits"] = 16; }, "digits: ");
  refused([](Json& json) { json["loss"] = "mean"; }, "loss: ");
  refused([](Json& json) { json["cell"] = "no_cell"; }, "cell: unknown cell 'no_cell'");
  refused([](Json& json) { json["weights"].push_back("a_x"); }, "weights: has 4");
  refused([](Json& json) { json["channels"] = Json::array(); }, "channels: ");
  refused([](Json& json) { json["channels"][0] = 1; }, "channels[0]");
  refused([](Json& json) { json = Json::array(); }, "not a JSON object");
}

TEST(Witness, RefusesAFileThatIsNotThereOrNotJson) {
  EXPECT_THROW(read_witness("/no/such/file.json"), BadInput);
  const std::filesystem::path path = own_file();
  for (const char* text : {"", "{\"cell\": ", "\x01\x02\x03"}) {
    std::ofstream(path, std::ios::trunc) << text;
    EXPECT_THROW(read_witness(path.string()), BadInput);
  }
}

}  // namespace
}  // namespace prnn

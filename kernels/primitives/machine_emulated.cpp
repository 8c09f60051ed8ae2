// machine_emulated.cpp: the device "emulated": host memory under the emulated GPU. Its times are those of the emulation, never a speed.
#include "kernels/primitives/device_emulated.hpp"
#include "kernels/primitives/machine_host.hpp"

namespace prnn::emulated {
namespace {

PRNN_KERNEL empty_kernel() {}

class EmulatedMachine : public HostMachine {
 public:
  std::string_view device() const override { return kDevice; }

 protected:
  void empty_launch() override { launch(&empty_kernel, 1, kWarp, 0, nullptr); }
};

[[maybe_unused]] const bool registered = [] {
  machines().push_back({kDevice, []() -> std::unique_ptr<Machine> { return std::make_unique<EmulatedMachine>(); }, [] { return std::string(); }});
  return true;
}();

}  // namespace
}  // namespace prnn::emulated

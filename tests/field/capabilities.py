"""NVIDIA's compute capability of GPUs by the names that nvidia-smi prints and people type, apart from compat.yaml.

Source: https://developer.nvidia.com/cuda-gpus and https://developer.nvidia.com/cuda-legacy-gpus, whose rows are these;
names with memory and mounting are those of public ``nvidia-smi`` output, and of NVIDIA's vGPU release notes.
"""

from __future__ import annotations

CAPABILITIES: dict[str, str] = {
    "3.7": "Tesla K80",
    "5.0": "Tesla M10; NVIDIA GeForce GTX 750; GeForce GTX 750 Ti",
    "5.2": """Tesla M60; Tesla M40; Tesla M40 24GB; Quadro M6000 24GB; Quadro M5000; Quadro M4000; Quadro M2000;
        NVIDIA GeForce GTX TITAN X; NVIDIA GeForce GTX 980 Ti; GeForce GTX 980; GeForce GTX 970; GeForce GTX
        960; GeForce GTX 950""",
    "6.0": "Tesla P100-PCIE-16GB; Tesla P100-SXM2-16GB; P100; Quadro GP100",
    "6.1": """Tesla P40; Tesla P4; Quadro P6000; Quadro P5000; Quadro P4000; Quadro P2200; Quadro P2000; Quadro
        P1000; Quadro P620; Quadro P600; Quadro P400; NVIDIA TITAN Xp; NVIDIA TITAN X (Pascal); NVIDIA
        GeForce GTX 1080 Ti; GTX 1080; GTX 1070 Ti; GTX 1070; NVIDIA GeForce GTX 1060 6GB; GTX 1050; GTX
        1050 Ti; gtx1080ti; NVIDIA GeForce MX150; NVIDIA GeForce MX230; MX250; MX330; MX350; NVIDIA GeForce
        GT 1030; Quadro P500; Quadro P520; Quadro P3000; Quadro P3200; Quadro P4200; Quadro P5200""",
    "6.2": "Jetson TX2",
    "7.0": """GRID V100D-8Q; GRID V100DX-32C; V100L; V100X; V100; Tesla V100-SXM2-16GB; V100S; Tesla
        V100-SXM2-32GB; Tesla V100-PCIE-32GB; Tesla V100S-PCIE-32GB; Quadro GV100; NVIDIA TITAN V""",
    "7.2": "Jetson AGX Xavier; Jetson Xavier NX; Xavier NX",
    "7.5": """Tesla T4; NVIDIA T4; T4; GRID T4-16Q; NVIDIA T4G; Quadro RTX 8000; Quadro RTX 6000; Quadro RTX 5000;
        Quadro RTX 4000; Quadro RTX 3000; Quadro RTX 5000 with Max-Q Design; NVIDIA T1200 Laptop GPU; NVIDIA
        T1000; NVIDIA T1000 8GB; NVIDIA T600; NVIDIA T550 Laptop GPU; NVIDIA T500; NVIDIA T400 4GB; Quadro
        T2000; Quadro T1000; NVIDIA TITAN RTX; NVIDIA GeForce RTX 2080 Ti; RTX 2080 SUPER; RTX 2080; RTX
        2070; RTX 2070 SUPER; RTX 2060; rtx2060; NVIDIA GeForce GTX 1660 Ti; GTX 1660 SUPER; GTX 1660;
        NVIDIA GeForce GTX 1650; GTX 1650 Ti; GTX 1630; NVIDIA GeForce MX450; NVIDIA GeForce MX550""",
    "8.0": """NVIDIA A100D-80C; A100DX; GRID A100-4-20C; NVIDIA A30-4-24C; A100; NVIDIA A100-SXM4-80GB; NVIDIA
        A100-SXM4-40GB; NVIDIA A100 80GB PCIe; NVIDIA A100-PCIE-40GB; NVIDIA A100-SXM-64GB; NVIDIA
        A100-SXM4-80GB MIG 1g.10gb; NVIDIA A100-40C; NVIDIA A100X; A800; NVIDIA A800-SXM4-80GB; NVIDIA A800
        80GB PCIe; NVIDIA A800 40GB Active; NVIDIA A30; NVIDIA A30X""",
    "8.6": """NVIDIA RTXA6000-48Q; A10; NVIDIA A10; NVIDIA A10-24Q; A10G; NVIDIA A10G; NVIDIA A40; NVIDIA A40-48Q;
        NVIDIA A16; NVIDIA A2; NVIDIA RTX A6000; A6000; RTX A6000; NVIDIA RTX A5500; NVIDIA RTX A5000;
        NVIDIA RTX A5000 Laptop GPU; NVIDIA RTX A4500; NVIDIA RTX A4000; NVIDIA RTX A3000 Laptop GPU; NVIDIA
        RTX A2000 12GB; RTX A2000; A2000; NVIDIA RTX A1000; NVIDIA RTX A500 Laptop GPU; NVIDIA RTX A400;
        NVIDIA GeForce RTX 3090 Ti; NVIDIA GeForce RTX 3090; NVIDIA GeForce RTX 3080 Ti Laptop GPU; RTX
        3080; NVIDIA GeForce RTX 3070; RTX 3060; NVIDIA GeForce RTX 3060 Ti; NVIDIA GeForce RTX 3050 6GB
        Laptop GPU; NVIDIA GeForce RTX 2050; rtx3090; 3090; NVIDIA GeForce MX570""",
    "8.7": "Orin (nvgpu); Jetson AGX Orin; Jetson Orin NX; Jetson Orin Nano; Orin Nano; AGX Orin; Orin",
    "8.9": """NVIDIA L4; L4; NVIDIA L40; NVIDIA L40S; NVIDIA L40S-48Q; NVIDIA L20; NVIDIA L2; NVIDIA RTX 6000 Ada
        Generation; RTX 6000 Ada; NVIDIA RTX 5880 Ada Generation; NVIDIA RTX 5000 Ada Generation; NVIDIA RTX
        4500 Ada Generation; NVIDIA RTX 4000 Ada Generation; NVIDIA RTX 4000 SFF Ada Generation; NVIDIA RTX
        2000 Ada Generation; NVIDIA RTX 3500 Ada Generation Laptop GPU; NVIDIA RTX 3000 Ada Generation
        Laptop GPU; NVIDIA RTX 1000 Ada Generation Laptop GPU; NVIDIA RTX 500 Ada Generation Laptop GPU;
        NVIDIA GeForce RTX 4090; NVIDIA GeForce RTX 4090 D; NVIDIA GeForce RTX 4090 Laptop GPU; RTX 4080
        SUPER; RTX 4080; NVIDIA GeForce RTX 4070 Ti SUPER; RTX 4070; RTX 4060 Ti; RTX 4060; NVIDIA GeForce
        RTX 4050 Laptop GPU; rtx4090; RTX4080SUPER; 4090""",
    "9.0": """NVIDIA H100L-94C; H100XL; NVIDIA H100XM-80C; NVIDIA H200 MIG 1g.18gb; H100; NVIDIA H100 80GB HBM3;
        NVIDIA H100 PCIe; NVIDIA H100 NVL; NVIDIA H100 80GB HBM3 MIG 1g.10gb; NVIDIA H100 SXM5 80GB; NVIDIA
        H800; NVIDIA H800 PCIe; NVIDIA H20; H20; NVIDIA H20-3e; NVIDIA H200; NVIDIA H200 NVL; NVIDIA GH200
        480GB; NVIDIA GH200 144G HBM3e; GH200""",
    "10.0": "NVIDIA B200; B200; NVIDIA B100; NVIDIA GB200; GB200 NVL72",
    "10.3": "NVIDIA B300; NVIDIA B300 SXM6 AC; NVIDIA GB300; gb300",
    "11.0": "NVIDIA Thor; Jetson AGX Thor; Jetson T5000; Jetson T4000; Thor",
    "12.0": """NVIDIA RTX PRO 6000 Blackwell DC-4-24Q; NVIDIA RTX PRO 6000 Blackwell Server Edition; NVIDIA RTX PRO
        6000 Blackwell Workstation Edition; NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition; RTX PRO
        6000; NVIDIA RTX PRO 5000 Blackwell; NVIDIA RTX PRO 4500 Blackwell; NVIDIA RTX PRO 4000 Blackwell;
        NVIDIA RTX PRO 4000 Blackwell SFF Edition; NVIDIA RTX PRO 2000 Blackwell; NVIDIA RTX PRO 3000
        Blackwell Generation Laptop GPU; NVIDIA RTX PRO 1000 Blackwell Generation Laptop GPU; NVIDIA RTX PRO
        500 Blackwell Generation Laptop GPU; NVIDIA GeForce RTX 5090; NVIDIA GeForce RTX 5090 D; NVIDIA
        GeForce RTX 5090 Laptop GPU; NVIDIA GeForce RTX 5080; RTX 5070 Ti; RTX 5070; RTX 5060 Ti; RTX 5060;
        NVIDIA GeForce RTX 5050; RTX5090; 5090""",
    "12.1": "NVIDIA GB10; GB10; GB10 (DGX Spark); DGX Spark; NVIDIA DGX Spark",
}
NAMES = {" ".join(name.split()): capability for capability, names in CAPABILITIES.items() for name in names.split(";")}

"""A directory with a run file and a model file, as a user would have."""

import pytest

RUN = """
from __gin__ import dynamic_registration
import __main__ as train_script
import config_fake_run as fake

MODEL_DIR = %gin.REQUIRED
TASK = %gin.REQUIRED
BATCH_SIZE = 4
STEPS = 1e5

train_script.train:
  model = %MODEL
  model_dir = %MODEL_DIR
  train_cfg = @train/fake.DatasetConfig()
  eval_cfg = @eval/fake.DatasetConfig()
  total_steps = %STEPS

fake.DatasetConfig.task = %TASK
train/fake.DatasetConfig:
  batch_size = %BATCH_SIZE
  lengths = {'inputs': 1e2, 'targets': 30}
eval/fake.DatasetConfig:
  split = 'validation'
  pack = false
"""
MODEL = """
from __gin__ import dynamic_registration
import config_fake_run as fake

MODEL = @fake.Model()
fake.Model.network = @fake.Network()
fake.Network:
  emb_dim = 8
  dropout_rate = 0
"""


@pytest.fixture
def gin_dir(tmp_path, monkeypatch):
  (tmp_path / "run.gin").write_text(RUN)
  (tmp_path / "models").mkdir()
  (tmp_path / "models" / "tiny.gin").write_text(MODEL)
  monkeypatch.chdir(tmp_path)
  return tmp_path
